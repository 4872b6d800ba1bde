#!/usr/bin/env python3
"""The real `scim2-server` on loopback with users and one group: [--users N] [--cursor] [--token T]

Prints one JSON line when it is filled; ends with its stdin.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

USER = 'urn:ietf:params:scim:schemas:core:2.0:User'
GROUP = 'urn:ietf:params:scim:schemas:core:2.0:Group'


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--users', type=int, default=0)
    ap.add_argument('--cursor', action='store_true')
    ap.add_argument('--token', default='synthetic-scim-token')
    args = ap.parse_args()
    port = free_port()
    base = f'http://127.0.0.1:{port}/v2'
    command = [os.path.join(os.path.dirname(sys.executable), 'scim2-server'), '--port', str(port), '--bearer-token', args.token]
    if args.cursor:
        command += ['--service-provider-config', os.path.join(os.path.dirname(os.path.abspath(__file__)), 'scim2_cursor.json')]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def call(path, body=None):
        headers = {'Authorization': f'Bearer {args.token}', 'Content-Type': 'application/scim+json'}
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(base + path, data=data, headers=headers), timeout=10) as answer:
            return json.load(answer)

    try:
        for _ in range(300):
            try:
                call('/ServiceProviderConfig')
                break
            except OSError:
                time.sleep(0.1)
        members = []
        for at in range(1, args.users + 1):
            email = f'user{at:05d}@scim2.example'
            made = call('/Users', {'schemas': [USER], 'userName': email, 'displayName': f'User {at}', 'active': at % 7 != 0,
                                   'name': {'givenName': 'User', 'familyName': str(at)},
                                   'emails': [{'value': email, 'primary': True, 'type': 'work'}]})
            if len(members) < 5:
                members.append({'value': made['id'], 'display': f'User {at}', 'type': 'User'})
        call('/Groups', {'schemas': [GROUP], 'displayName': 'Everybody', 'members': members})
        print(json.dumps({'listening': base, 'token': args.token}), flush=True)
        sys.stdin.read()
    finally:
        server.kill()
        server.wait()


if __name__ == '__main__':
    main()
