#!/usr/bin/env python3
"""The real Keeper Commander Service Mode application on loopback, against a synthetic MSP tenant.

Nothing here talks to Keeper. The two network entry points of Commander (`api.communicate_rest` for protobuf endpoints,
`api.communicate` for JSON commands) and the vault sync are replaced by an in-process backend that answers with real protobuf
messages; authentication, limiter, queue, parser, encryption and command code are Commander's own.

  keeper_commander.py [--port 0] [--queue y|n] [--encryption-key 32chars] [--rate-limit "1000/minute"]
                      [--throttle-every N] [--users N] [--commands a,b,c] [--max-seconds S]

When it listens it prints one JSON line: {"listening", "api_key", "other_api_key", "commander"}. Commands on stdin, one JSON object a
line: {"throttle_every": N, "throttle_text": "..."}, {"refuse": ID}, {"session_expired": N}, {"old_shapes": true},
{"status": {"user_id": N, "word": "..."}}; each is answered by one JSON line. The end of stdin ends the program.
"""
import argparse
import base64
import datetime
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time

_TMP = tempfile.mkdtemp(prefix='keeper-local-')
os.environ['HOME'] = _TMP
os.environ['KEEPER_DATA_HOME'] = _TMP

import keepercommander  # noqa: E402
from keepercommander import api, crypto, utils, cli, loginv3  # noqa: E402
from keepercommander.error import KeeperApiError  # noqa: E402
from keepercommander.params import KeeperParams  # noqa: E402
from keepercommander.proto import enterprise_pb2 as ep, BI_pb2 as bi, APIRequest_pb2, publicapi_pb2  # noqa: E402
import keepercommander.commands.record  # noqa: E402,F401  (import order used by the real CLI)

def leave(code):
    shutil.rmtree(_TMP, ignore_errors=True)
    os._exit(code)


MSP_ID = 8560
MC_IDS = (3861, 3862, 3863)
ADMIN = 'msp.admin@acme-msp.example'
UNLIMITED = 2147483647
DAY = 86400
REF_NOW = 1789000000          # fixed clock for reproducible samples (2026-09-10T00:26:40Z)


def eid(enterprise_id, n):
    return (enterprise_id << 32) + n


def fixed_uid(text):
    return hashlib.sha256(text.encode()).digest()[:16]


def enc_name(name, tree_key):
    data = {} if name is None else {'displayname': name}     # the root node carries an empty object
    return utils.base64_url_encode(crypto.encrypt_aes_v1(json.dumps(data).encode(), tree_key))


class Enterprise:
    """One synthetic enterprise; `messages()` renders it as EnterpriseDataResponse."""

    def __init__(self, enterprise_id, name, lic_status='business'):
        self.id, self.name, self.lic_status = enterprise_id, name, lic_status
        self.tree_key = hashlib.sha256(f'tree{enterprise_id}'.encode()).digest()
        self.nodes, self.users, self.teams, self.queued_teams = {}, {}, {}, {}
        self.roles, self.team_users, self.queued_team_users = {}, [], []
        self.role_users, self.role_teams, self.managed, self.privileges = [], [], [], []
        self.aliases, self.scims, self.mcs, self.enforcements = [], [], [], []
        self.addons = [dict(name='enterprise_audit_and_reporting', enabled=True, includedInProduct=True)]
        self.next_id = 5000

    # -- builders -----------------------------------------------------------------------------
    def node(self, n, name, parent=None):
        self.nodes[eid(self.id, n)] = (name, eid(self.id, parent) if parent else 0)

    def user(self, n, email, name, node, status='active', lock=0, tfa=False, transfer=1, job='', expires=0):
        self.users[eid(self.id, n)] = dict(email=email, name=name, node=eid(self.id, node), status=status, lock=lock,
                                           tfa=tfa, transfer=transfer, job=job, expires=expires)

    def team(self, name, node, users=(), queued=(), share=False, edit=False, view=False):
        uid = fixed_uid(f'{self.id}:{name}')
        self.teams[uid] = (name, eid(self.id, node), share, edit, view)
        self.team_users += [(uid, eid(self.id, u)) for u in users]
        if queued:
            self.queued_team_users.append((uid, [eid(self.id, u) for u in queued]))
        return uid

    def queued_team(self, name, node, users=()):
        uid = fixed_uid(f'{self.id}:q:{name}')
        self.queued_teams[uid] = (name, eid(self.id, node))
        if users:
            self.queued_team_users.append((uid, [eid(self.id, u) for u in users]))

    def role(self, n, name, node, users=(), teams=(), default=False, admin_node=None, privileges=()):
        rid = eid(self.id, n)
        self.roles[rid] = (name, eid(self.id, node), default)
        self.role_users += [(rid, eid(self.id, u)) for u in users]
        self.role_teams += [(rid, t) for t in teams]
        if admin_node:
            self.managed.append((rid, eid(self.id, admin_node)))
            self.privileges += [(rid, eid(self.id, admin_node), p) for p in privileges]

    # -- protobuf -----------------------------------------------------------------------------
    def messages(self):
        rs = ep.EnterpriseDataResponse()
        rs.cacheStatus = ep.CLEAR
        rs.hasMore = False
        rs.continuationToken = b'1'
        rs.generalData.enterpriseName = self.name

        def add(entity, items):
            d = rs.data.add()
            d.entity = entity
            d.data.extend(x.SerializeToString() for x in items)

        add(ep.NODES, [ep.Node(nodeId=i, parentId=p, encryptedData=enc_name(n if p else None, self.tree_key))
                       for i, (n, p) in self.nodes.items()])
        add(ep.USERS, [ep.User(enterpriseUserId=i, nodeId=u['node'], username=u['email'], status=u['status'],
                               lock=u['lock'], tfaEnabled=u['tfa'], transferAcceptanceStatus=u['transfer'],
                               jobTitle=u['job'], keyType='encrypted_by_data_key', fullName=u['name'],
                               accountShareExpiration=u['expires'],
                               encryptedData=enc_name(u['name'], self.tree_key) if u['name'] else '')
                       for i, u in self.users.items()])
        add(ep.TEAMS, [ep.Team(teamUid=t, name=v[0], nodeId=v[1], restrictShare=v[2], restrictEdit=v[3],
                               restrictView=v[4]) for t, v in self.teams.items()])
        add(ep.QUEUED_TEAMS, [ep.QueuedTeam(teamUid=t, name=v[0], nodeId=v[1]) for t, v in self.queued_teams.items()])
        add(ep.TEAM_USERS, [ep.TeamUser(teamUid=t, enterpriseUserId=u) for t, u in self.team_users])
        add(ep.QUEUED_TEAM_USERS, [ep.QueuedTeamUser(teamUid=t, users=us) for t, us in self.queued_team_users])
        add(ep.ROLES, [ep.Role(roleId=i, nodeId=n, keyType='encrypted_by_data_key', visibleBelow=True,
                               newUserInherit=d, encryptedData=enc_name(name, self.tree_key))
                       for i, (name, n, d) in self.roles.items()])
        add(ep.ROLE_USERS, [ep.RoleUser(roleId=r, enterpriseUserId=u) for r, u in self.role_users])
        add(ep.ROLE_TEAMS, [ep.RoleTeam(role_id=r, teamUid=t) for r, t in self.role_teams])
        add(ep.MANAGED_NODES, [ep.ManagedNode(roleId=r, managedNodeId=n, cascadeNodeManagement=True)
                               for r, n in self.managed])
        add(ep.ROLE_PRIVILEGES, [ep.RolePrivilege(roleId=r, managedNodeId=n, privilegeType=p)
                                 for r, n, p in self.privileges])
        add(ep.ROLE_ENFORCEMENTS, [ep.RoleEnforcement(roleId=r, enforcementType=k, value=v)
                                   for r, k, v in self.enforcements])
        lic = ep.License(paid=True, numberOfSeats=100, name='Keeper', enterpriseLicenseId=1, seatsAllocated=len(self.users),
                         licenseStatus=self.lic_status)
        for a in self.addons:
            lic.addOns.add(**a)
        add(ep.LICENSES, [lic])
        add(ep.USER_ALIASES, [ep.UserAlias(enterpriseUserId=u, username=a) for u, a in self.aliases])
        add(ep.SCIMS, [ep.Scim(scimId=s, nodeId=n, status=st, lastSynced=ls, rolePrefix=p, uniqueGroups=g)
                       for s, n, st, ls, p, g in self.scims])
        mcs = []
        for m in self.mcs:
            mc = ep.ManagedCompany(mcEnterpriseId=m['id'], mcEnterpriseName=m['name'], mspNodeId=m['node'],
                                   numberOfSeats=m['seats'], numberOfUsers=m['users'], productId=m['product'],
                                   isExpired=m.get('paused', False), filePlanType=m['file_plan'])
            for a in m['addons']:
                mc.addOns.add(**a)
            mcs.append(mc)
        add(ep.MANAGED_COMPANIES, mcs)
        return rs


def build_world(extra_users=0):
    msp = Enterprise(MSP_ID, 'Acme MSP', 'msp')
    msp.node(2, 'Acme MSP')
    msp.node(10, 'Managed Companies', 2)
    msp.node(11, 'Service Desk', 2)
    msp.user(101, ADMIN, 'Morgan Admin', 2, tfa=True, job='Owner')
    msp.user(102, 'tech1@acme-msp.example', 'Terry Tech', 11, tfa=True, transfer=4, job='Technician')
    msp.user(103, 'tech2@acme-msp.example', 'Tanya Tech', 11, status='invited', transfer=0)
    msp.role(301, 'Keeper Administrator', 2, users=(101,), admin_node=2,
             privileges=('manage_nodes', 'manage_user', 'manage_roles', 'manage_teams', 'manage_companies'))
    msp.team('Technicians', 11, users=(102,))
    mc_addons = {
        3861: [dict(name='enterprise_breach_watch', enabled=True, seats=0),
               dict(name='secrets_manager', enabled=True, seats=0, isTrial=False)],
        3862: [dict(name='connection_manager', enabled=True, seats=5),
               dict(name='privileged_access_manager', enabled=True, seats=3),
               dict(name='compliance_report', enabled=True, seats=0)],
        3863: [],
    }
    msp.mcs = [
        dict(id=3861, name='Northwind Dental', node=eid(MSP_ID, 10), seats=UNLIMITED, users=6, product='businessPlus',
             file_plan='STORAGE_1TB', addons=mc_addons[3861]),
        dict(id=3862, name='Contoso Legal, LLP', node=eid(MSP_ID, 10), seats=25, users=3, product='enterprise',
             file_plan='STORAGE_100GB', addons=mc_addons[3862]),
        dict(id=3863, name='fabrikam (trial)', node=eid(MSP_ID, 10), seats=0, users=0, product='business',
             file_plan='STORAGE_100GB', addons=mc_addons[3863], paused=True),
    ]
    msp.scims = []

    nw = Enterprise(3861, 'Northwind Dental')
    nw.node(2, 'Northwind Dental')
    nw.node(20, 'Clinic', 2)
    nw.node(21, 'Entra SCIM', 2)
    nw.user(201, 'ada@northwind.example', 'Ada Northwind', 2, tfa=True, job='Practice Manager')
    nw.user(202, 'ben@northwind.example', 'Ben Ünïcode', 20, tfa=False, transfer=2)
    nw.user(203, 'cat@northwind.example', '', 20, status='invited', transfer=0)
    nw.user(204, 'dan@northwind.example', 'Dan Locked', 20, lock=1, tfa=True, transfer=4, job='Hygienist')
    nw.user(205, 'eve@northwind.example', 'Eve IdP-Locked', 21, lock=2, transfer=3)
    nw.user(206, 'fay@northwind.example', 'Fay "Quote" O\'Neil, Jr.', 21, transfer=2, expires=(REF_NOW + 7 * DAY) * 1000)
    nw.aliases = [(eid(3861, 201), 'ada@northwind.example'), (eid(3861, 201), 'ada.old@northwind.example')]
    fd = nw.team('Front Desk', 20, users=(201, 202, 204), queued=(203,), share=True)
    nw.team('Clinicians', 2, users=(202,), edit=True, view=True)
    nw.queued_team('SCIM Pending Team', 21, users=(205,))
    nw.role(401, 'Keeper Administrator', 2, users=(201,), admin_node=2, privileges=('manage_user', 'manage_teams'))
    nw.role(402, 'Clinic Users', 20, users=(202,), teams=(fd,), default=True)
    nw.enforcements = [(eid(3861, 402), 'require_two_factor', 'true'), (eid(3861, 402), 'logout_timer_web', '30')]
    nw.scims = [(eid(3861, 901), eid(3861, 21), 'active', (REF_NOW - 3600) * 1000, 'kr-', True)]
    for i in range(extra_users):
        nw.user(10000 + i, f'bulk{i:05d}@northwind.example', f'Bulk User {i:05d}', 20)

    cl = Enterprise(3862, 'Contoso Legal, LLP')
    cl.node(2, 'Contoso Legal, LLP')
    cl.user(201, 'gil@contoso.example', 'Gil Contoso', 2, tfa=True)
    cl.user(202, 'hal@contoso.example', 'Hal Partner', 2, transfer=4)
    cl.user(203, 'ivy@contoso.example', 'Ivy Clerk', 2, status='invited', transfer=0)
    cl.role(401, 'Keeper Administrator', 2, users=(201,), admin_node=2, privileges=('manage_user',))
    cl.team('Partners', 2, users=(201, 202))

    fk = Enterprise(3863, 'fabrikam (trial)')
    fk.node(2, 'fabrikam (trial)')
    return {e.id: e for e in (msp, nw, cl, fk)}


# ---- billing ------------------------------------------------------------------------------------
ADDON_IDS = {1: 'chat', 3: 'enterprise_breach_watch', 5: 'compliance_report', 7: 'secrets_manager',
             8: 'connection_manager', 9: 'privileged_access_manager'}


def daily_snapshots(rq):
    """Northwind grows 4 -> 6 seats on day 16; Contoso has 3 seats but only from day 11."""
    rs = bi.ReportingDailySnapshotResponse()
    for mc, name in ((3861, 'Northwind Dental'), (3862, 'Contoso Legal, LLP')):
        rs.mcEnterprises.add(id=mc, name=name)
    days = 30 if rq.month in (4, 6, 9, 11) else 28 if rq.month == 2 else 31
    for day in range(1, days + 1):
        ts = int(datetime.datetime(rq.year, rq.month, day, tzinfo=datetime.timezone.utc).timestamp() * 1000)
        r = rs.records.add(date=ts, mcEnterpriseId=3861, maxLicenseCount=4 if day < 16 else 6,
                           maxBasePlanId=2, maxFilePlanTypeId=7)
        r.addons.add(maxAddonId=3, units=4 if day < 16 else 6)
        r.addons.add(maxAddonId=7, units=1)
        if day >= 11:
            r = rs.records.add(date=ts, mcEnterpriseId=3862, maxLicenseCount=3, maxBasePlanId=10, maxFilePlanTypeId=4)
            r.addons.add(maxAddonId=8, units=5)
            r.addons.add(maxAddonId=9, units=3)
            r.addons.add(maxAddonId=5, units=3)
    return rs


def mc_pricing():
    rs = bi.SubscriptionMcPricingResponse()

    def cost(x, amount, per):
        x.cost.amount, x.cost.amountPer, x.cost.currency = amount, per, bi.USD
    for pid, amount in ((1, 2.5), (2, 3.75), (10, 4.5), (11, 6.0)):
        cost(rs.basePlans.add(id=pid), amount, bi.Cost.USER_MONTH)
    for aid, amount, per in ((1, 1.0, bi.Cost.USER_MONTH), (3, 1.25, bi.Cost.USER_MONTH), (5, 1.0, bi.Cost.USER_MONTH),
                             (7, 10.0, bi.Cost.USER_CONSUMED_MONTH), (8, 20.0, bi.Cost.USER_MONTH),
                             (9, 25.0, bi.Cost.USER_MONTH)):
        cost(rs.addons.add(id=aid), amount, per)
    for fid, amount in ((4, 0.0), (7, 60.0), (8, 600.0)):
        cost(rs.filePlans.add(id=fid), amount, bi.Cost.MONTH)
    return rs


# ---- fake Keeper backend ------------------------------------------------------------------------
class Backend:
    def __init__(self, world):
        self.world = world
        self.calls = []
        self.throttle_every = 0
        self.throttle_text = 'Due to repeated attempts, your request has been throttled. Try again in 2 minutes.'
        self.session_expired = 0
        self.refused = set()
        self.events = self._events()
        self.lock = threading.RLock()

    def _events(self):
        base = REF_NOW
        common = dict(ip_address='203.0.113.7', keeper_version='EMConsole.17.4.0', geo_location='Elk Grove, US')
        nw = 3861
        rows = [
            ('send_invitation', 'ada@northwind.example', dict(email='cat@northwind.example', to_username='cat@northwind.example')),
            ('create_user', 'ada@northwind.example', dict(to_username='cat@northwind.example')),
            ('accept_invitation', 'ben@northwind.example', {}),
            ('login', 'ben@northwind.example', dict(channel='web')),
            ('added_to_team', 'ada@northwind.example', dict(to_username='ben@northwind.example',
                                                            team_uid=utils.base64_url_encode(fixed_uid(f'{nw}:Front Desk')))),
            ('lock_user', 'ada@northwind.example', dict(to_username='dan@northwind.example')),
            ('delete_user', 'ada@northwind.example', dict(to_username='old@northwind.example')),
        ]
        return [dict(id=7000 + i, created=base - 3600 * (len(rows) - i), audit_event_type=t, username=u, **common, **x)
                for i, (t, u, x) in enumerate(rows)]

    def ent(self, params):
        return self.world[params.enterprise_id or MSP_ID]

    def tick(self, what):
        with self.lock:
            self.calls.append(what)
            if self.throttle_every and len(self.calls) % self.throttle_every == 0:
                raise KeeperApiError('throttled', self.throttle_text)
            if self.session_expired:
                self.session_expired -= 1
                raise KeeperApiError('session_token_expired', 'Session token expired')

    # protobuf endpoints
    def rest(self, params, request, endpoint, *, rs_type=None, payload_version=None, **kw):
        self.tick(endpoint)
        e = self.ent(params)
        if endpoint == 'enterprise/get_enterprise_data_keys':
            rs = ep.GetEnterpriseDataKeysResponse()
            rs.treeKey.treeKey = utils.base64_url_encode(crypto.encrypt_aes_v2(e.tree_key, params.data_key))
            rs.treeKey.keyTypeId = ep.ENCRYPTED_BY_DATA_KEY_GCM
            rsa_priv, rsa_pub = crypto.generate_rsa_key()
            ec_priv, ec_pub = crypto.generate_ec_key()
            rs.enterpriseKeys.rsaPublicKey = crypto.unload_rsa_public_key(rsa_pub)
            rs.enterpriseKeys.rsaEncryptedPrivateKey = crypto.encrypt_aes_v2(crypto.unload_rsa_private_key(rsa_priv), e.tree_key)
            rs.enterpriseKeys.eccPublicKey = crypto.unload_ec_public_key(ec_pub)
            rs.enterpriseKeys.eccEncryptedPrivateKey = crypto.encrypt_aes_v2(crypto.unload_ec_private_key(ec_priv), e.tree_key)
            return rs
        if endpoint == 'enterprise/get_enterprise_data_for_user':
            return e.messages()
        if endpoint.endswith('/mapping/addons'):
            rs = bi.MappingAddonsResponse()
            for i, n in ADDON_IDS.items():
                rs.addons.add(id=i, name=n)
            return rs
        if endpoint.endswith('/subscription/mc_pricing'):
            return mc_pricing()
        if endpoint.endswith('/reporting/daily_snapshot'):
            return daily_snapshots(request)
        if endpoint == 'public_api/list_token':
            rs = publicapi_pb2.PublicApiTokenResponseList()
            t = rs.tokens.add(enterprise_id=MSP_ID, name='Billing gateway', active=True,
                              issuedDate=(REF_NOW - DAY) * 1000, expirationDate=0)
            t.integrations.add(apiIntegrationTypeName='BILLING', apiIntegrationTypeId=3, actionType=1)
            t = rs.tokens.add(enterprise_id=MSP_ID, name='SIEM gateway', active=True,
                              issuedDate=(REF_NOW - 40 * DAY) * 1000, expirationDate=(REF_NOW - 10 * DAY) * 1000)
            t.integrations.add(apiIntegrationTypeName='SIEM', apiIntegrationTypeId=1, actionType=1)
            return rs
        if endpoint == 'public_api/generate_token':
            rs = publicapi_pb2.PublicApiTokenResponse(enterprise_id=MSP_ID, name=request.tokenName, token='SYNTHETIC-TOKEN',
                                                      active=True, issuedDate=REF_NOW * 1000,
                                                      expirationDate=request.expirationDate)
            for r in request.integrationRequests:
                rs.integrations.add(apiIntegrationTypeId=r.apiIntegrationTypeId, actionType=r.actionType,
                                    apiIntegrationTypeName={1: 'SIEM', 2: 'CSPM', 3: 'BILLING'}[r.apiIntegrationTypeId])
            return rs
        if endpoint in ('enterprise/disable_two_fa',):
            return None
        raise KeeperApiError('not_supported', f'fake backend: {endpoint}')

    # JSON commands
    def communicate(self, params, rq, retry_on_throttle=True):
        cmd = rq['command']
        self.tick(cmd)
        e = self.ent(params)
        ok = {'result': 'success', 'result_code': '', 'message': ''}
        with self.lock:
            if cmd == 'execute':
                return {**ok, 'results': [self._one(e, r) for r in rq['requests']]}
            if cmd == 'enterprise_allocate_ids':
                base = eid(e.id, e.next_id)
                e.next_id += rq['number_requested']
                return {**ok, 'number_allocated': rq['number_requested'], 'base_id': base}
            if cmd == 'get_mc_license_adjustment_log':
                return {**ok, 'log': [
                    {'id': 1, 'date': '2026-08-03T09:11:21Z', 'enterprise_id': 3861, 'enterprise_name': 'Northwind Dental',
                     'status': 'active', 'new_number_of_seats': 6, 'new_product_type': 'businessPlus',
                     'note': 'Seats changed from 4 to 6', 'price': 22.5}]}
            r = self._one(e, rq)
            if r['result'] != 'success':
                raise KeeperApiError(r['result_code'], r['message'])
            return r

    def _one(self, e, rq):
        cmd = rq['command']
        ok = {'result': 'success', 'result_code': '', 'message': '', 'command': cmd}

        def fail(code, msg):
            return {'result': 'fail', 'result_code': code, 'message': msg, 'command': cmd}
        u = e.users.get(rq.get('enterprise_user_id'))
        if cmd == 'enterprise_user_add':
            if any(x['email'] == rq['enterprise_user_username'] for w in self.world.values() for x in w.users.values()):
                return fail('exists', 'User already exists in another enterprise')
            data = json.loads(crypto.decrypt_aes_v1(utils.base64_url_decode(rq['encrypted_data']), e.tree_key) or b'{}')
            e.users[rq['enterprise_user_id']] = dict(email=rq['enterprise_user_username'], name=data.get('displayname', ''),
                                                     node=rq['node_id'], status='invited', lock=0, tfa=False, transfer=0,
                                                     job=rq.get('job_title', ''), expires=0)
            return ok
        if cmd == 'enterprise_user_lock':
            if not u:
                return fail('doesnt_exist', 'User does not exist')
            u['lock'] = 1 if rq['lock'] == 'locked' else 0
            return ok
        if cmd == 'enterprise_user_delete':
            e.users.pop(rq['enterprise_user_id'], None)
            e.team_users = [x for x in e.team_users if x[1] != rq['enterprise_user_id']]
            e.role_users = [x for x in e.role_users if x[1] != rq['enterprise_user_id']]
            return ok
        if cmd in ('resend_enterprise_invite', 'set_master_password_expire', 'extend_account_share_expiration'):
            return ok
        if cmd == 'enterprise_user_update':
            if rq.get('job_title'):
                u['job'] = rq['job_title']
            if rq.get('full_name'):
                u['name'] = rq['full_name']
            u['node'] = rq.get('node_id') or u['node']
            return ok
        if cmd == 'team_enterprise_user_remove':
            t = utils.base64_url_decode(rq['team_uid'])
            e.team_users = [x for x in e.team_users if x != (t, rq['enterprise_user_id'])]
            return ok
        if cmd in ('team_enterprise_user_add', 'team_queue_user'):
            t = utils.base64_url_decode(rq['team_uid'])
            if cmd == 'team_enterprise_user_add':
                e.team_users.append((t, rq['enterprise_user_id']))
            else:
                e.queued_team_users.append((t, [rq['enterprise_user_id']]))
            return ok
        if cmd == 'role_user_add':
            e.role_users.append((rq['role_id'], rq['enterprise_user_id']))
            return ok
        if cmd == 'role_user_remove':
            e.role_users = [x for x in e.role_users if x != (rq['role_id'], rq['enterprise_user_id'])]
            return ok
        if cmd in ('team_add', 'team_update'):
            t = utils.base64_url_decode(rq['team_uid'])
            e.teams[t] = (rq['team_name'], rq['node_id'], rq['restrict_share'], rq['restrict_edit'], rq['restrict_view'])
            return ok
        if cmd == 'team_delete':
            t = utils.base64_url_decode(rq['team_uid'])
            e.teams.pop(t, None)
            e.queued_teams.pop(t, None)
            e.team_users = [x for x in e.team_users if x[0] != t]
            e.role_teams = [x for x in e.role_teams if x[1] != t]
            return ok
        if cmd == 'get_audit_event_reports':
            flt = rq.get('filter') or {}
            types, names = flt.get('audit_event_type'), flt.get('username')
            rows = [x for x in self.events if (not types or x['audit_event_type'] in types)
                    and (not names or x['username'] in names)]
            created = flt.get('created')
            if isinstance(created, dict) and rq.get('report_type') == 'raw':
                rows = [x for x in rows if created.get('min', 0) <= x['created'] <= created.get('max', 1 << 60)]
            if rq.get('report_type') == 'raw':
                rows = sorted(rows, key=lambda x: x['created'], reverse=rq.get('order') != 'ascending')
                return {**ok, 'audit_event_overview_report_rows': rows[:rq.get('limit', 1000)]}
            agg = {}
            for x in rows:
                agg[x['username']] = max(agg.get(x['username'], 0), x['created'])
            return {**ok, 'audit_event_overview_report_rows': [{'username': k, 'last_created': v} for k, v in agg.items()]}
        if cmd == 'get_audit_event_dimensions':
            return {**ok, 'dimensions': {'audit_event_type': []}}
        return fail('bad_inputs_command', f'fake backend: {cmd}')


def mc_login(backend):
    def _login(params, mc_id):
        if mc_id not in backend.world or mc_id in backend.refused:
            raise KeeperApiError('access_denied', 'Not an administrator of this company')
        mc = new_params(backend)
        mc.enterprise_id = mc_id
        mc.msp_tree_key = params.enterprise['unencrypted_tree_key']
        api.query_enterprise(mc, True, tree_key=backend.world[mc_id].tree_key)
        return mc
    return _login


def new_params(backend):
    p = KeeperParams(server='keeper.invalid')
    p.user = ADMIN
    p.session_token = 'synthetic-session'
    p.data_key = hashlib.sha256(b'data').digest()
    p.enterprise_id = 0
    p.sync_data = False
    p.license = {'account_type': 2, 'product_type_name': 'Enterprise', 'expiration_date': '2027-09-10', 'bytes_total': 0,
                 'storage_expiration_date': '2027-09-10', 'audit_and_reporting_enabled': True}
    return p


def install(backend):
    api.communicate_rest = backend.rest
    api.communicate = backend.communicate
    api.sync_down = lambda params, *a, **k: None
    api.login_and_get_mc_params_login_v3 = mc_login(backend)

    def load_keys(params, emails, *a, **k):
        from keepercommander.params import PublicKeys
        for m in emails:
            if m not in params.key_cache:
                _, rsa = crypto.generate_rsa_key()
                _, ec = crypto.generate_ec_key()
                params.key_cache[m] = PublicKeys(rsa=crypto.unload_rsa_public_key(rsa), ec=crypto.unload_ec_public_key(ec))
    api.load_user_public_keys = load_keys

    def load_team_keys(params, uids):
        from keepercommander.params import PublicKeys
        for t in uids:
            params.key_cache[t] = PublicKeys(aes=hashlib.sha256(t.encode()).digest())
    api.load_team_keys = load_team_keys
    p = new_params(backend)
    api.query_enterprise(p)
    return p


# ---- Service Mode -------------------------------------------------------------------------------
def write_service_config(args, backend):
    from pathlib import Path
    from keepercommander.service.config.file_handler import ConfigFormatHandler
    home = utils.get_default_path()
    home.mkdir(parents=True, exist_ok=True)
    (home / 'config.json').write_text(json.dumps({'private_key': base64.urlsafe_b64encode(b'k' * 32).decode(), 'user': ADMIN}))
    cfg = dict(title='Commander Service Mode Config', port=args.port, ngrok='n', ngrok_auth_token='', ngrok_custom_domain='',
               ngrok_public_url='', cloudflare='n', cloudflare_tunnel_token='', cloudflare_custom_domain='',
               cloudflare_public_url='', tls_certificate='n', certfile='', certpassword='',
               is_advanced_security_enabled='y', rate_limiting=args.rate_limit, ip_allowed_list='', ip_denied_list='',
               encryption='y' if args.encryption_key else 'n', encryption_private_key=args.encryption_key or '',
               fileformat='json', run_mode='foreground', queue_enabled=args.queue,
               records=[{'api-key': args.api_key, 'command_list': args.commands,
                         'expiration_timestamp': datetime.datetime(9999, 12, 31, 23, 59, 59).isoformat()},
                        {'api-key': args.api_key + '-other', 'command_list': args.commands,
                         'expiration_timestamp': datetime.datetime(9999, 12, 31, 23, 59, 59).isoformat()},
                        {'api-key': args.api_key + '-expired', 'command_list': args.commands,
                         'expiration_timestamp': datetime.datetime(2020, 1, 1).isoformat()}])
    path = home / 'service_config.json'
    path.write_text('{}')
    path.write_bytes(ConfigFormatHandler.encrypted_content(json.dumps(cfg), path, home))
    os.chmod(path, 0o600)
    os.chmod(home / 'config.json', 0o600)


def old_shapes():
    """Makes `enterprise-info -v` answer as releases before 18.1 did: texts where there are objects now."""
    from keepercommander.commands.enterprise import EnterpriseInfoCommand
    new = EnterpriseInfoCommand.execute

    def execute(self, params, **kwargs):
        if kwargs.get('users'):
            kwargs['verbose'] = False
        return new(self, params, **kwargs)
    EnterpriseInfoCommand.execute = execute


def status_word(backend, order):
    """Makes one user show a status word as an old release printed it."""
    from keepercommander.commands import enterprise
    words = status_word.__dict__.setdefault('words', {})
    words[order['user_id']] = order['word']
    if 'original' not in status_word.__dict__:
        status_word.original = enterprise.dump_report_data

        def dump(rows, headers, *a, **k):
            if 'status' in headers and 'user_id' in headers:
                at, uid = headers.index('status'), headers.index('user_id')
                for row in rows:
                    row[at] = words.get(row[uid], row[at])
            return status_word.original(rows, headers, *a, **k)
        enterprise.dump_report_data = dump


def obey(backend):
    """Reads orders from stdin until it ends."""
    from keepercommander.commands import msp
    for line in sys.stdin:
        order = json.loads(line)
        with backend.lock:
            if 'throttle_every' in order:
                backend.calls.clear()
                backend.throttle_every = order['throttle_every']
                backend.throttle_text = order.get('throttle_text', backend.throttle_text)
            if 'session_expired' in order:
                backend.session_expired = order['session_expired']
            if 'refuse' in order:
                backend.refused.add(order['refuse'])
                msp.mc_params_dict.pop(order['refuse'], None)
            if order.get('old_shapes'):
                old_shapes()
            if 'status' in order:
                status_word(backend, order['status'])
        print(json.dumps({'done': order}), flush=True)
    leave(0)


def serve(args):
    backend = Backend(build_world(args.users))
    params = install(backend)
    backend.throttle_every = args.throttle_every
    from werkzeug.serving import make_server
    write_service_config(args, backend)
    from keepercommander.service.core.globals import init_globals
    init_globals(params)
    from keepercommander.service.app import create_app
    out, sys.stdout = sys.stdout, sys.stderr          # Commander prints while it starts; stdout is for our lines
    app = create_app()
    sys.stdout = out
    server = make_server('127.0.0.1', args.port, app, threaded=True)
    threading.Timer(args.max_seconds, lambda: leave(3)).start()
    print(json.dumps({'listening': f'http://127.0.0.1:{server.server_port}', 'api_key': args.api_key,
                      'other_api_key': args.api_key + '-other', 'commander': keepercommander.__version__}), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    obey(backend)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--port', type=int, default=0)
    ap.add_argument('--api-key', default='synthetic-api-key-0123456789abcdef')
    ap.add_argument('--commands', default='whoami,enterprise-info,enterprise-down,enterprise-user,enterprise-team,msp-info,msp-down,'
                                          'msp-billing-report,switch-to-mc,switch-to-msp,user-report,audit-report')
    ap.add_argument('--queue', choices=('y', 'n'), default='y')
    ap.add_argument('--encryption-key')
    ap.add_argument('--rate-limit', default='100000/minute')
    ap.add_argument('--throttle-every', type=int, default=0)
    ap.add_argument('--max-seconds', type=int, default=900)
    ap.add_argument('--users', type=int, default=0, help='extra users in company 3861')
    serve(ap.parse_args())


if __name__ == '__main__':
    main()
