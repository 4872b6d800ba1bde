"""Google's own client, pointed at an address: google_client.py ADDRESS TOKEN. Prints one JSON line with what it got."""

import json
import sys

from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

address, token = sys.argv[1:]
options = {"api_endpoint": address}
directory = build("admin", "directory_v1", static_discovery=True, client_options=options, credentials=Credentials(token))
users, request = [], directory.users().list(customer="my_customer", maxResults=2)
while request is not None:
    page = request.execute()
    users += [user["id"] for user in page.get("users", [])]
    request = directory.users().list_next(request, page)
created = directory.users().insert(body={"primaryEmail": "new@vendor.example", "name": {"givenName": "Grüße"}}).execute()
deleted = directory.users().delete(userKey="a b+c@vendor.example").execute()
try:
    directory.users().get(userKey="nobody").execute()
    missing = None
except HttpError as error:
    missing = [error.resp.status, error.reason]

said = {"users": users, "created": created["name"]["givenName"], "deleted": deleted, "missing": missing}
print(json.dumps(said))
