#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ask.py SOCKET COMMAND...: one question to the status socket, for the tests.

  ask.py S json 'connections'     the JSON answer, indented
  ask.py S pair ID ID             0 if one connection shows both identities
  ask.py S show ID ID             the rows that show both, a `key: value` a line (no odd numbers)
  ask.py S endpoint PORT          0 if a registered endpoint has that port
  ask.py S sum NAME [COMMAND]     the sum of every number called NAME in `stats` (or COMMAND);
                                  NAME may also be the value of a "reason" or "name" key
  ask.py S has TEXT [COMMAND]     0 if a string in `workloads` (or COMMAND) is TEXT
"""
import collections, json, re, socket, sys


def ask(path, command):
    """Sends `command json` and returns the parsed answer, which ends when it is whole."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        s.sendall(command.encode() + b' json\n')
        text = b''
        while True:
            data = s.recv(1 << 20)
            text += data
            if data and not text.rstrip().endswith((b'}', b']')):
                continue
            try:
                return json.loads(text)
            except ValueError:
                if not data:
                    raise SystemExit('ask: no JSON to %r: %r' % (command, text[:300]))


def strings(node):
    """The strings of a dict and of the dicts in it, but not of lists in it."""
    for v in node.values():
        if isinstance(v, str):
            yield v
        elif isinstance(v, dict):
            yield from strings(v)


def walk(node, above=()):
    """Every dict of the tree with its strings and those of the dicts that it is in."""
    if isinstance(node, dict):
        yield node, above + tuple(strings(node))
        own = above + tuple(v for v in node.values() if isinstance(v, str))
        for k, v in node.items():
            yield from walk(v, own + (k,))
    elif isinstance(node, list):
        for v in node:
            yield from walk(v, above)


def number(v):
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def total(tree, name):
    names = {name, name + '_total', 'libmesh_' + name, 'libmesh_' + name + '_total'}
    n = 0
    for node, _ in walk(tree):
        n += sum(v for k, v in node.items() if k in names and number(v))
        if names & {v for k, v in node.items() if k in ('reason', 'name') and isinstance(v, str)}:
            n += sum(v for k, v in node.items() if k in ('count', 'value', 'total') and number(v))
    return n


def main(argv):
    path, what, args = argv[1], argv[2], argv[3:]
    if what == 'json':
        print(json.dumps(ask(path, ' '.join(args)), indent=1))
        return 0
    if what == 'pair':
        tree = ask(path, 'connections')
        want = collections.Counter(args)
        if any(not want - collections.Counter(texts) for node, texts in walk(tree) if node):
            return 0
        print('ask: no connection shows both %s' % ' and '.join(args))
        seen = {t for _, texts in walk(tree) for t in texts if t.startswith('spiffe://')}
        print('ask: identities seen: %s' % (', '.join(sorted(seen)) or 'none'))
        return 1
    if what == 'show':
        want, shown = collections.Counter(args), 0
        for node, _ in walk(ask(path, 'connections')):
            if not want - collections.Counter(strings(node)):
                shown += 1
                for k, v in node.items():
                    if re.search('id$|service|cipher|bytes|direction|state|tls', k) and v != '':
                        print('%s%s: %s' % ('- ' if k == next(iter(node)) else '  ', k, v))
        return 0 if shown else 1
    if what == 'endpoint':
        for node, _ in walk(ask(path, 'endpoints')):
            if str(node.get('port')) == args[0] or any(
                    isinstance(v, str) and v.endswith(':' + args[0]) for v in node.values()):
                return 0
        return 1
    if what == 'sum':
        print(int(total(ask(path, args[1] if len(args) > 1 else 'stats'), args[0])))
        return 0
    if what == 'has':
        tree = ask(path, args[1] if len(args) > 1 else 'workloads')
        return 0 if any(args[0] in texts for _, texts in walk(tree)) else 1
    raise SystemExit(__doc__)


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv))
    except (OSError, IndexError) as e:
        print('ask: %s' % e)
        sys.exit(2)
