"""Truto's Python SDK against a gateway: BASE TOKEN ACCOUNT CONTEXT. Prints what it read as one JSON line."""
import asyncio
import json
import sys

import aiohttp
from truto_python_sdk import TrutoApi


async def main(base, token, account, context):
    api = TrutoApi(token=token, base_url=base)
    await api.ping()

    def users(**query):
        return api.unified_api.list('user-directory', 'users', {'integrated_account_id': account, **query})

    said = {'users': [], 'count': 0}
    async for user in users(limit=5):
        said.setdefault('first', user)
        said['users'].append(user['id'])
        said['count'] += 1
    said['got'] = await api.unified_api.get('user-directory', 'users', said['first']['id'], {'integrated_account_id': account})
    said['proxied'] = len(await api.proxy_api.list('Users', {'integrated_account_id': account, 'limit': 5}).to_array())
    said['filtered'] = [user['username'] async for user in users(emails={'email': 'user00004@scim2.example'})]
    said['inactive'] = [user['username'] async for user in users(filters={'status': 'inactive'}, limit=2)]
    said['accounts'] = [item['id'] async for item in api.integrated_accounts.list()]
    own = {'integrated_account_id': account}
    made = await api.proxy_api.create('Users', {'schemas': ['urn:ietf:params:scim:schemas:core:2.0:User'], 'userName': 'proxied@scim2.example'}, own)
    operation = {'schemas': ['urn:ietf:params:scim:api:messages:2.0:PatchOp'], 'Operations': [{'op': 'replace', 'path': 'title', 'value': 'T'}]}
    altered = await api.proxy_api.update('Users', made['id'], operation, own)
    said['altered'] = (altered or await api.proxy_api.get('Users', made['id'], own))['title']
    search = {'schemas': ['urn:ietf:params:scim:api:messages:2.0:SearchRequest'], 'filter': 'userName eq "proxied@scim2.example"'}
    found = await api._post('proxy/Users/search', data=search, params=own)
    said['searched'] = [user['id'] for user in found['result']['Resources']] == [made['id']]
    custom = await api.custom_api.get('/Users/' + made['id'], **own)
    said['custom'] = custom['result']['userName']
    said['paging'] = [custom['next_cursor'], custom['prev_cursor']]
    searched = await api.custom_api.post('Users/.search', search, **own)
    said['custom_search'] = searched['result']['totalResults']
    gone = await api.proxy_api.delete('Users', made['id'], own)
    said['gone'] = gone == {'id': made['id']}
    try:
        await api.custom_api.get('Users/' + made['id'], **own)
    except aiohttp.ClientResponseError as error:
        said['custom_missing'] = error.status
    changed = await api.integrated_accounts.update(account, {'tenant_id': 'renamed'})
    said['label'] = changed['tenant_id']
    more = await api.integrated_accounts._import({'tenant_id': 'second', 'integration': 'scim', 'authentication_method': 'bearer',
                                                  'context': json.loads(context)})
    await api.integrated_accounts.delete(more['id'])
    try:
        await api.integrated_accounts.get(more['id'])
    except aiohttp.ClientResponseError as error:
        said['refused'] = error.status
    print(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))
