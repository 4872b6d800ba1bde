"""Truto's Python SDK against a gateway: BASE TOKEN ADMIN ACCOUNT CONTEXT. Prints what it read as one JSON line, and of each method
of the SDK that was not called how the gateway answers it."""
import asyncio
import datetime
import inspect
import json
import sys

import aiohttp
from truto_python_sdk import TrutoApi

DRIVEN = set()
UTC = datetime.timezone.utc


def noted(name, method):
    def call(*given, **named):
        DRIVEN.add(name)
        return method(*given, **named)

    return call


def methods(api):
    """Every method of the SDK, by resource and name."""
    found = {'ping': (api, 'ping')}
    for resource, part in vars(api).items():
        if type(part).__module__.startswith('truto_python_sdk.'):
            names = [name for name, _ in inspect.getmembers(part, inspect.ismethod) if not name.startswith('__')]
            found.update({f'{resource}.{name}': (part, name) for name in names})
    return found


def client(base, token):
    """The SDK, which notes what is called."""
    api = TrutoApi(token=token, base_url=base)
    for name, (part, method) in methods(api).items():
        setattr(part, method, noted(name, getattr(part, method)))
    return api


async def status_of(call):
    try:
        await call
    except aiohttp.ClientResponseError as error:
        return error.status
    return 200


async def read(api, account, said):
    await api.ping()

    def users(**query):
        return api.unified_api.list('user-directory', 'users', {'integrated_account_id': account, **query})

    said.update({'users': [], 'count': 0})
    async for user in users(limit=5):
        said.setdefault('first', user)
        said['users'].append(user['id'])
        said['count'] += 1
    own = {'integrated_account_id': account}
    said['got'] = await api.unified_api.get('user-directory', 'users', said['first']['id'], own)
    said['proxied'] = len(await api.proxy_api.list('Users', {**own, 'limit': 5}).to_array())
    said['filtered'] = [user['username'] async for user in users(emails={'email': 'user00004@scim2.example'})]
    said['inactive'] = [user['username'] async for user in users(filters={'status': 'inactive'}, limit=2)]
    calls = [{'name': 'some', 'resource': 'user-directory/users', 'method': 'list', 'query': {'status': 'inactive'}}]
    said['batch'] = await api.batch_requests.create({'integrated_account_id': account, 'resources': calls})


async def write(api, account, said):
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
    operation['Operations'][0]['value'] = 'U'
    await api.custom_api.patch('Users/' + made['id'], operation, **own)
    patched = (await api.custom_api.get('Users/' + made['id'], **own))['result']
    put = await api.custom_api.put('Users/' + made['id'], {**patched, 'title': patched['title'] + 'V'}, **own)
    said['custom_writes'] = put['result']['title']
    gone = await api.proxy_api.delete('Users', made['id'], own)
    said['gone'] = gone == {'id': made['id']}
    said['custom_missing'] = await status_of(api.custom_api.get('Users/' + made['id'], **own))
    made = await api.unified_api.create('user-directory', 'users', {'username': 'unified@scim2.example', 'name': 'Una'}, own)
    changed = await api.unified_api.update('user-directory', 'users', made['id'], {'name': 'Una Ficada'}, own)
    gone = await api.unified_api.delete('user-directory', 'users', made['id'], own)
    said['unified'] = [made['username'], changed['name'], gone == {'id': made['id']}]
    made = await api.proxy_api.create('Users', {'schemas': ['urn:ietf:params:scim:schemas:core:2.0:User'], 'userName': 'custom@scim2.example'}, own)
    await api.custom_api.delete('Users/' + made['id'], **own)
    said['custom_deleted'] = await status_of(api.proxy_api.get('Users', made['id'], own))


async def accounts(api, base, account, context, said):
    """The accounts themselves, and every filter of their list."""

    async def listed(**query):
        return [item['id'] for item in await api.integrated_accounts.list(**query).to_array()]

    said['accounts'] = await listed()
    shown = await api.integrated_accounts.get(account)
    now = datetime.datetime.now(UTC)
    said['found'] = await listed(
        environment_id=shown['environment_id'], tenant_id=shown['tenant_id'], is_sandbox=False, status='active', integration={'name': 'scim'},
        created_at={'gte': shown['created_at'], 'lt': now + datetime.timedelta(days=1)}, updated_at={'gt': datetime.date(2020, 1, 1)})
    others = [{'environment_id': account}, {'created_at': {'gt': now}}, {'updated_at': {'lt': datetime.date(2020, 1, 1)}}, {'features': {'super_query': 'apac'}}]
    said['not_found'] = [await listed(**other) for other in others]
    changed = await api.integrated_accounts.update(account, {'tenant_id': 'renamed'})
    said['label'] = changed['tenant_id']
    done = [await api.integrated_accounts.refresh_credentials(account), await api.integrated_accounts.run_post_install_actions(account)]
    said['done'] = done == [{'success': True}] * 2
    token = (await api.integrated_accounts.create_integrated_account_token(account))['integrated_account_token']
    alone = await client(base, token).unified_api.list('user-directory', 'users', {'limit': 2}).next_page()
    said['by_account_token'] = len(alone)
    more = await api.integrated_accounts._import({'tenant_id': 'second', 'integration': 'scim', 'authentication_method': 'bearer', 'region': 'wnam',
                                                  'context': context})
    await api.integrated_accounts.delete(more['id'])
    said['refused'] = await status_of(api.integrated_accounts.get(more['id']))


async def administer(api, account, said):
    """What is around the accounts."""
    made = await api.link_tokens.create({'tenant_id': 'acme', 'persist_previous_context': True, 'environment_unified_model_id': 'user-directory'})
    again = await api.link_tokens.create({'integrated_account_id': account, 'context': {'plan': 'gold'}})
    said['link_tokens'] = len({made['link_token'], again['link_token']})
    tokens = await api.api_tokens.list(name='test').to_array()
    said['token'] = (await api.api_tokens.get(tokens[0]['id']))['name']
    environments = await api.environments.list().to_array()
    said['environment'] = (await api.environments.get(environments[0]['id']))['name']
    integration = (await api.integrations.list(name='keeper').to_array())[0]
    said['integration'] = (await api.integrations.get(integration['id']))['name']

    async def installed():
        all_of_them = await api.environment_integrations.list().to_array()
        return {item['integration']['name']: item['id'] for item in all_of_them}

    before = await installed()
    await api.integrations.uninstall(integration['id'])
    said['uninstalled'] = sorted(set(before) - set(await installed()))
    await api.integrations.install(integration['id'])
    said['installed'] = await installed() == before
    await api.environment_integrations.update(before['keeper'], {'show_in_catalog': False})
    said['shown'] = (await api.environment_integrations.get(before['keeper']))['show_in_catalog']
    await api.integrations.uninstall(before['keeper'])
    said['uninstalled_again'] = 'keeper' not in await installed()
    lines = await api.logs.list(integrated_account_id=account, limit=1).next_page()
    said['logged'] = len(lines)


async def answer(part, method):
    """How a method ends that is called with something in every place."""
    fill = {dict: {}, str: 'x', inspect.Parameter.empty: {}}
    call = getattr(part, method)
    needed = [place for place in inspect.signature(call).parameters.values()
              if place.default is place.empty and place.kind is place.POSITIONAL_OR_KEYWORD]
    try:
        said = call(*[fill.get(place.annotation, {}) for place in needed])
        return await status_of(said.to_array() if hasattr(said, 'to_array') else said)
    except TypeError:
        return 'TypeError'


async def main(base, token, admin, account, context):
    api, boss, said = client(base, token), client(base, admin), {}
    await read(api, account, said)
    await write(api, account, said)
    await accounts(api, base, account, json.loads(context), said)
    await administer(boss, account, said)
    said['driven'] = sorted(DRIVEN)
    every = methods(TrutoApi(token=admin, base_url=base))
    said['others'] = {name: await answer(*every[name]) for name in sorted(set(every) - DRIVEN)}
    print(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))
