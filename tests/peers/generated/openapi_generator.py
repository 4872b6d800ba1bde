"""The Python client of openapi-generator against a gateway: BASE TOKEN ACCOUNT. Prints what it read as one JSON line."""
import json
import sys
from uuid import UUID, uuid4

import openapi_client
from openapi_client.models import Problem, UserStatus


def main(base, token, account):
    with openapi_client.ApiClient(openapi_client.Configuration(host=base, access_token=token)) as client:
        directory, accounts = openapi_client.DirectoryApi(client), openapi_client.AccountsApi(client)

        def walk(**query):
            users, cursor = [], None
            while True:
                page = directory.list_users(UUID(account), next_cursor=cursor, **query)
                users += page.result
                cursor = page.next_cursor
                if cursor is None:
                    return users

        users = walk(limit=7)
        try:
            problem = directory.list_users(uuid4())
        except openapi_client.ApiException as error:
            problem = error.data
        assert isinstance(problem, Problem), problem
        print(json.dumps({
            'users': [user.id for user in users],
            # The generator sends objects of a query as JSON, which no list reads; its users filter what they have read.
            'inactive': [user.id for user in users if user.status == UserStatus.INACTIVE],
            'problem': [problem.status, problem.code, problem.retryable],
            'account': str(accounts.get_integrated_account(account).id),
        }))


main(*sys.argv[1:])
