#!/usr/bin/env python3
"""Measures the gateway beside nginx, in interleaved rounds on one machine, and says whether each bound holds.

    packaging/build && python3 tests/bench/load.py [--rounds 7] [--binary target/dist/rollcall]

Needs nginx and wrk (Debian: nginx-light, wrk), for the figures beside them HAProxy (haproxy) and what `tests/run` installs for the
proxy of express and axios. Everything stays on loopback. CPU per request is the run time of all the proxy's
threads (/proc/PID/task/*/schedstat) divided by the requests that wrk completed. The gateway runs as shipped: key check, metrics
and an access-log line per request; nginx with its access log on. All have one worker on CPU 1, upstream and load on CPU 0.

A virtual machine's host may take its processors away at any time, which every figure of such a round includes. Rounds are therefore
tried until as many as asked for lost at most a hundredth of their time, five times as many at most; the least disturbed count.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TOKEN = 'bench-administrator-token-0123456789abcdef'
SIZES = {'1k': 1024, '10k': 10_240, '100k': 102_400}
PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_for(port, process, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        if process.poll() is not None:
            sys.exit(f'{process.args[0]} ended with {process.returncode}')
        try:
            socket.create_connection(('127.0.0.1', port), 0.2).close()
            return
        except OSError:
            time.sleep(0.005)
    sys.exit(f'nothing listens on {port}')


def cpu_ns(pid):
    """Run time of a process and its children, all threads."""
    total = 0
    pids = [pid]
    children = subprocess.run(['pgrep', '-P', str(pid)], capture_output=True, text=True).stdout.split()
    for p in pids + [int(c) for c in children]:
        for task in os.listdir(f'/proc/{p}/task'):
            with open(f'/proc/{p}/task/{task}/schedstat') as f:
                total += int(f.read().split()[0])
    return total


def host_time():
    """Hundredths of a second that the host took away from this machine so far, and of all time, over its processors."""
    with open('/proc/stat') as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    return ticks[7], sum(ticks)


def rss_mb(pid, field='VmRSS'):
    with open(f'/proc/{pid}/status') as f:
        for line in f:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0


def request(port, method, path, body=None):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    headers = {'Authorization': f'Bearer {TOKEN}'}
    if body is not None:
        headers['Content-Type'] = 'application/json'
    c.request(method, path, json.dumps(body) if body is not None else None, headers)
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, data


class Bench:
    def __init__(self, args):
        self.args = args
        self.dir = tempfile.mkdtemp(prefix='rollcall-bench-')
        os.chmod(self.dir, 0o755)    # nginx's worker is another user when root starts it
        self.processes = []
        self.results = []

    def start(self, argv, cpu, env=None):
        process = subprocess.Popen(['taskset', '-c', str(cpu), *argv], env=env, stdout=subprocess.DEVNULL, stderr=self.log())
        self.processes.append(process)
        return process

    def log(self):
        return open(os.path.join(self.dir, 'stderr.log'), 'ab')

    def nginx(self, name, cpu, server):
        prefix = os.path.join(self.dir, name)
        os.makedirs(prefix)
        conf = os.path.join(prefix, 'nginx.conf')
        with open(conf, 'w') as f:
            f.write(f'''daemon off; worker_processes 1; pid {prefix}/pid; error_log {prefix}/error.log crit;
events {{ worker_connections 4096; }}
http {{ client_body_temp_path {prefix}; proxy_temp_path {prefix}; fastcgi_temp_path {prefix}; uwsgi_temp_path {prefix};
  scgi_temp_path {prefix}; keepalive_requests 1000000000; default_type application/json; sendfile on; tcp_nodelay on;
  {server} }}''')
        return self.start(['nginx', '-p', prefix, '-c', conf], cpu)

    def upstream(self):
        self.up = free_port()
        root = os.path.join(self.dir, 'files')
        os.makedirs(root)
        for name, size in SIZES.items():
            with open(os.path.join(root, name), 'w') as f:
                f.write('{"data":"' + 'x' * (size - 11) + '"}')
        users = [{'id': f'u{n}', 'userName': f'ada.{n}@bench.example', 'active': True, 'displayName': f'Ada {n}',
                  'name': {'givenName': 'Ada', 'familyName': f'Number {n}'},
                  'emails': [{'value': f'ada.{n}@bench.example', 'type': 'work', 'primary': True}],
                  'meta': {'resourceType': 'User', 'created': '2026-01-02T03:04:05Z', 'lastModified': '2026-02-03T04:05:06Z'}}
                 for n in range(100)]
        page = {'schemas': ['urn:ietf:params:scim:api:messages:2.0:ListResponse'], 'totalResults': len(users), 'startIndex': 1,
                'itemsPerPage': len(users), 'Resources': users}
        with open(os.path.join(root, 'Users'), 'w') as f:
            json.dump(page, f)
        p = self.nginx('upstream', 0, f'''access_log off; server {{ listen 127.0.0.1:{self.up} backlog=4096; root {root};
            if ($http_authorization = "") {{ return 401; }} location / {{ try_files $uri =404; }} }}''')
        wait_for(self.up, p)

    def haproxy(self):
        """HAProxy with the same task and its log on, or nothing where it is not installed."""
        if not shutil.which('haproxy'):
            return print('      HAProxy: not installed')
        port = free_port()
        conf = os.path.join(self.dir, 'haproxy.cfg')
        with open(conf, 'w') as f:
            f.write(f'''global
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend in
  bind 127.0.0.1:{port} backlog 4096
  http-request set-header Authorization "Bearer vendor-token"
  default_backend up
backend up
  http-reuse always
  server up 127.0.0.1:{self.up}
''')
        p = self.start(['haproxy', '-db', '-f', conf], 1)
        wait_for(port, p)
        return p.pid, f'http://127.0.0.1:{port}', None

    def express(self):
        """The proxy of express and axios, or nothing where its packages are not installed."""
        node, script = (os.path.join(PEERS, p) for p in ('.peers/bin/node', 'tests/peers/node/express-axios/proxy.mjs'))
        if not (os.path.exists(node) and os.path.exists(os.path.join(os.path.dirname(script), 'node_modules'))):
            return print('      express + axios: not installed, run tests/run once')
        port = free_port()
        p = self.start([node, script, str(port), f'http://127.0.0.1:{self.up}'], 1, dict(os.environ, NODE_ENV='production'))
        wait_for(port, p)
        return p.pid, f'http://127.0.0.1:{port}', f'Authorization: Bearer {TOKEN}'

    def proxy(self):
        self.ng = free_port()
        log = os.path.join(self.dir, 'access.log')
        p = self.nginx('proxy', 1, f'''access_log {log}; upstream up {{ server 127.0.0.1:{self.up}; keepalive 256; }}
            map $http_x_account $credential {{ default "Bearer vendor-token"; }}
            server {{ listen 127.0.0.1:{self.ng} backlog=4096; location / {{ proxy_pass http://up; proxy_http_version 1.1;
              proxy_set_header Connection ""; proxy_set_header Authorization $credential; proxy_buffering on; }} }}''')
        wait_for(self.ng, p)
        self.ng_pid = p.pid

    def environment(self, port, data):
        env = {k: v for k, v in os.environ.items() if not k.startswith('ROLLCALL_')}
        env.update(ROLLCALL_STORE=f'embedded:{data}', ROLLCALL_LISTEN=f'127.0.0.1:{port}', ROLLCALL_ADMIN_TOKEN=TOKEN,
                   ROLLCALL_EGRESS_ALLOW=f'127.0.0.1:{self.up}')
        return env

    def gateway(self, data, cpu=1):
        port = free_port()
        started = time.perf_counter()
        p = self.start([self.args.binary, 'serve'], cpu, self.environment(port, data))
        while True:
            try:
                status, _ = request(port, 'GET', '/healthz')
                if status == 200:
                    break
            except OSError:
                if p.poll() is not None or time.perf_counter() - started > 20:
                    sys.exit(f'the gateway did not come up, see {self.dir}/stderr.log')
                time.sleep(0.002)
        return p, port, (time.perf_counter() - started) * 1000

    def link(self, port, tenant='bench'):
        body = {'tenant_id': tenant, 'integration': 'scim', 'authentication_method': 'bearer',
                'context': {'base_url': f'http://127.0.0.1:{self.up}', 'token': 'vendor-token'}}
        status, data = request(port, 'POST', '/integrated-account', body)
        if status != 201:
            sys.exit(f'link: {status} {data!r}')
        return json.loads(data)['id']

    def token(self, port):
        """An API token as a customer's service has one."""
        status, data = request(port, 'POST', '/api-token', {'name': 'bench', 'scopes': ['proxy:read', 'directory:read']})
        if status != 201:
            sys.exit(f'token: {status} {data!r}')
        return json.loads(data)['token']

    def wrk(self, url, connections, seconds, header=None):
        argv = ['taskset', '-c', '0', 'wrk', '-t1', f'-c{connections}', f'-d{seconds}s', '--latency', url]
        if header:
            argv[-1:-1] = ['-H', header]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        if 'Non-2xx' in text:
            sys.exit(f'{url}: not every answer was 2xx\n{text}')
        done = int(next(l for l in text.splitlines() if ' requests in ' in l).split()[0])
        latency = {l.split()[0]: milliseconds(l.split()[1]) for l in text.splitlines() if l.strip().startswith(('50%', '99%'))}
        return done, latency

    def cost(self, target, path, connections=64):
        """One round: microseconds of CPU per request, requests per second, milliseconds at the median and the 99th hundredth."""
        pid, base, header = target
        before = cpu_ns(pid)
        done, latency = self.wrk(base + path, connections, 1, header)
        return (cpu_ns(pid) - before) / done / 1000, done, latency['50%'], latency['99%']

    def rounds(self, targets, path, connections=64, count=None):
        """The costs of all targets beside one another, in the rounds that the host disturbed least."""
        count = count or self.args.rounds
        for target in targets:
            self.cost(target, path, connections)
        tried = []
        while len(tried) < 5 * count and sum(taken <= 0.01 for taken, _ in tried) < count:
            order = list(enumerate(targets))[:: 1 if len(tried) % 2 == 0 else -1]
            taken, every = host_time()
            costs = {n: self.cost(target, path, connections) for n, target in order}
            now = host_time()
            tried.append(((now[0] - taken) / max(now[1] - every, 1), [costs[n] for n in range(len(targets))]))
        tried.sort(key=lambda one: one[0])
        print(f'      {path or "lists"}: of {len(tried)} rounds, {count} that lost up to {tried[:count][-1][0]:.0%} of their time', flush=True)
        return [costs for _, costs in tried[:count]]

    def check(self, name, value, bound, unit, least=False):
        good = value >= bound if least else value <= bound
        self.results.append(good)
        word = 'at least' if least else 'bound'
        print(f'{"ok  " if good else "OVER"}  {name}: {value:.2f} {unit} ({word} {bound} {unit})', flush=True)

    def ratios(self):
        process, port, _ = self.gateway(os.path.join(self.dir, 'data-ratio'))
        account = self.link(port)
        auth = f'Authorization: Bearer {self.token(port)}'
        targets = {'nginx': (self.ng_pid, f'http://127.0.0.1:{self.ng}', None),
                   'rollcall': (process.pid, f'http://127.0.0.1:{port}/passthrough/{account}', auth)}
        for size in SIZES:
            bodies = set()
            for _, base, _ in targets.values():
                bodies.add(request_raw(base + '/' + size))
            assert len(bodies) == 1, 'the bodies differ'
        for size in ('1k', '100k'):
            rounds = []
            for costs in self.rounds(targets.values(), f'/{size}'):
                for name, (cpu, rate, p50, p99) in zip(targets, costs):
                    print(f'      {size} {name}: {cpu:.1f} us/request, {rate:.0f} req/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms')
                rounds.append([ours / theirs for theirs, ours in zip(*costs)])
            print(f'      {size} CPU ratios: {" ".join(f"{r[0]:.2f}" for r in rounds)}')
            cpu, rate, p50, p99 = (statistics.median(column) for column in zip(*rounds))
            self.check(f'passthrough {size}, 64 connections: CPU per request beside nginx', cpu, 1.6, 'x')
            if size == '1k':
                self.check('  requests/s of one core beside nginx', rate, 0.65, 'x', least=True)
                self.check('  median latency beside nginx', p50, 1.7, 'x')
                self.check('  99th hundredth of latency beside nginx', p99, 1.3, 'x')
        self.beside_haproxy(targets['rollcall'])
        self.beside_express(targets['rollcall'])
        self.mapped(process.pid, port, account, auth)
        self.idle_connections(process.pid, port, account)
        slowest = 0.0
        for size in (1, 100, 1000, 1460, 4096, 16_384, 65_536, 262_144, 1_048_576):
            with open(os.path.join(self.dir, 'files', f's{size}'), 'w') as f:
                f.write('x' * size)
            times = sorted(timed(port, f'/passthrough/{account}/s{size}') for _ in range(40))
            slowest = max(slowest, times[len(times) // 2])
        self.check('one connection, 1 B to 1 MB: slowest median', slowest * 1000, 20, 'ms')
        self.big_body(process.pid, port, account)
        self.stop(process)

    def beside_haproxy(self, rollcall):
        """Told without a bound."""
        haproxy = self.haproxy()
        if haproxy:
            rounds = [(ours[0] / theirs[0], theirs[0]) for ours, theirs in self.rounds([rollcall, haproxy], '/1k', count=3)]
            ratio, theirs = (statistics.median(column) for column in zip(*rounds))
            print(f'      passthrough 1 kB: CPU per request beside HAProxy ({theirs:.1f} us): {ratio:.2f} x', flush=True)

    def beside_express(self, rollcall):
        express = self.express()
        if express:
            rounds = [ours[0] / theirs[0] for ours, theirs in self.rounds([rollcall, express], '/1k', count=3)]
            self.check('passthrough 1 kB: CPU per request beside express + axios', statistics.median(rounds), 0.125, 'x')

    def mapped(self, pid, port, account, auth):
        """A mapped list of 100 users beside the passthrough of the same page."""
        paths = [f'/passthrough/{account}/Users?count=100', f'/unified/user-directory/users?integrated_account_id={account}&limit=100']
        status, page = request(port, 'GET', paths[1])
        assert status == 200 and len(json.loads(page)['result']) == 100, (status, page[:500])
        targets = [(pid, f'http://127.0.0.1:{port}{path}', auth) for path in paths]
        rounds = [(passed[0], mapped[0]) for passed, mapped in self.rounds(targets, '', 16, 5)]
        print(f'      100 users: {" ".join(f"{mapped:.0f}/{passed:.0f}" for passed, mapped in rounds)} us mapped/passed')
        ratio = statistics.median(mapped / passed for passed, mapped in rounds)
        self.check('mapped list of 100: CPU per request beside our passthrough of the page', ratio, 9, 'x')

    def idle_connections(self, pid, port, account, count=2000):
        before = rss_mb(pid)
        head = f'GET /passthrough/{account}/1k HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n'.encode()
        waiting = []
        for _ in range(count):
            s = socket.create_connection(('127.0.0.1', port), 10)
            s.sendall(head)
            got = b''
            while len(got.partition(b'\r\n\r\n')[2]) < SIZES['1k']:
                got += s.recv(65536)
            waiting.append(s)
        growth = (rss_mb(pid) - before) * 1024 / count
        for s in waiting:
            s.close()
        self.check('memory of an idle connection', growth, 24, 'kB')

    def big_body(self, pid, port, account):
        size = 1 << 30
        path = os.path.join(self.dir, 'files', 'big')
        with open(path, 'wb') as f:
            f.truncate(size)
        before = rss_mb(pid)
        peak = before
        c = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
        c.request('GET', f'/passthrough/{account}/big', headers={'Authorization': f'Bearer {TOKEN}'})
        r = c.getresponse()
        left = size
        while left > 0:
            chunk = r.read(1 << 20)
            assert chunk, 'the body was cut'
            left -= len(chunk)
            if left % (64 << 20) < (1 << 20):
                peak = max(peak, rss_mb(pid))
        c.close()
        os.remove(path)
        self.check('1 GB body streamed: growth of memory', max(peak, rss_mb(pid)) - before, 4, 'MiB')

    def start_up(self):
        process, port, _ = self.gateway(os.path.join(self.dir, 'data-none'))
        time.sleep(2)
        self.check('idle memory', rss_mb(process.pid), 25, 'MB')
        self.stop(process)
        many = self.args.keep or os.path.join(self.dir, 'data-many')
        self.fill(many)
        gateways = [self.linked(os.path.join(self.dir, 'data-few')), self.linked(many)]
        rounds = []
        for (few, *_), (more, *_) in self.rounds([target for _, target in gateways], '/1k'):
            rounds.append(more - few)
            print(f'      one account: {few:.1f} us/request, {self.args.accounts}: {more:.1f} us/request', flush=True)
        self.check(f'CPU per request that {self.args.accounts} accounts add', statistics.median(rounds), 8, 'us')
        for process, _ in gateways:
            self.stop(process)
        firsts = []
        for _ in range(5):
            process, port, first = self.gateway(many, cpu=0)
            firsts.append(first)
            status, _ = request(port, 'GET', '/integrated-account?limit=1')
            assert status == 200
            self.stop(process)
        self.check(f'first answer after exec, {self.args.accounts} accounts', statistics.median(firsts), 300, 'ms')

    def fill(self, data):
        """Links the accounts, unless an earlier run has."""
        done = os.path.join(data, 'accounts-of-the-bench')
        if os.path.exists(done) and open(done).read() == str(self.args.accounts):
            return
        process, port, _ = self.gateway(data)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for _ in pool.map(lambda n: self.link(port, f'tenant-{n}'), range(self.args.accounts)):
                pass
        self.stop(process)
        with open(done, 'w') as f:
            f.write(str(self.args.accounts))

    def linked(self, data):
        """A gateway on this data with one more account, as a target."""
        process, port, _ = self.gateway(data)
        account, auth = self.link(port), f'Authorization: Bearer {self.token(port)}'
        return process, (process.pid, f'http://127.0.0.1:{port}/passthrough/{account}', auth)

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        process.wait(40)
        self.processes.remove(process)

    def end(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)


def milliseconds(text):
    """What wrk writes of a time: `850.00us`, `1.32ms`, `1.02s`."""
    for unit, scale in (('us', 0.001), ('ms', 1), ('s', 1000)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * scale
    raise ValueError(text)


def request_raw(url):
    host, path = url.removeprefix('http://').split('/', 1)
    c = http.client.HTTPConnection(host, timeout=30)
    c.request('GET', '/' + path, headers={'Authorization': f'Bearer {TOKEN}'})
    r = c.getresponse()
    assert r.status == 200, (url, r.status)
    return r.read()


def timed(port, path):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
    c.connect()
    started = time.perf_counter()
    c.request('GET', path, headers={'Authorization': f'Bearer {TOKEN}'})
    c.getresponse().read()
    c.close()
    return time.perf_counter() - started


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--binary', default='target/dist/rollcall')
    ap.add_argument('--rounds', type=int, default=7)
    ap.add_argument('--accounts', type=int, default=10_000)
    ap.add_argument('--keep', metavar='FOLDER', help='where the accounts are kept for another run')
    ap.add_argument('--part', choices=['ratios', 'accounts'], help='this part alone')
    args = ap.parse_args()
    for tool in ('nginx', 'wrk', 'taskset'):
        if not shutil.which(tool):
            sys.exit(f'{tool} is needed: apt-get install nginx-light wrk util-linux')
    bench = Bench(args)
    try:
        bench.upstream()
        bench.proxy()
        if args.part != 'accounts':
            bench.ratios()
        if args.part != 'ratios':
            bench.start_up()
    finally:
        bench.end()
    sys.exit(0 if all(bench.results) else 1)


if __name__ == '__main__':
    main()
