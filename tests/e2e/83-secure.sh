#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the loader drops the preload from [ld.so(8), secure-execution mode] is told from the rest as the kernel tells it:
# set-user-ID and capabilities of files and of scripts' interpreters, nosuid, no_new_privs, files that cannot be executed.
# Each is executed by a user without privileges, with and without a clean environment; it says what the kernel told it, and
# whether libmesh is there, which has to be so wherever it can be. The rest is counted.
. "$(dirname "$0")/lib.sh"
need gcc python3.11 unshare mount
[ "$(id -u)" = 0 ] || { echo "skip: needs root"; exit 77; }

body() {
    gcc -O2 -Wall -x c -o probe - <<'C' || return 1
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

int
main(void)
{
    char line[4096];
    int meshed = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        meshed |= strstr(line, "libmesh.so") != NULL;
    printf("secure %lu\n", getauxval(AT_SECURE));
    fprintf(stderr, "%lu %d\n", getauxval(AT_SECURE), meshed);
    return 0;
}
C
    chmod 711 "$E2E_WORK" "$WORK"
    cat >secure.py <<'END'
import ctypes, os, shutil, socket, struct, subprocess, sys

def probe(name, mode=0o755, caps=None, text=None):
    if text:
        with open(name, 'w') as f:
            f.write(text)
    else:
        shutil.copy('probe', name)
    os.chmod(name, mode)
    if caps:
        os.setxattr(name, 'security.capability', struct.pack('<5I', 0x02000000 | caps[0], caps[1], caps[2], 0, 0))

def drop(no_new_privs):
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    if no_new_privs:
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)

BIND = 1 << 10
here = os.getcwd()
os.mkdir('nosuid')
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'nosuid,mode=755', 'none', 'nosuid'], check=True)
for at in '', 'nosuid/':
    probe(at + 'effective', caps=(1, BIND, 0))
    probe(at + 'permitted', caps=(0, BIND, 0))
    probe(at + 'suid', 0o4755)
probe('plain')
probe('inheritable', caps=(0, 0, BIND))
probe('none', 0o4600)
probe('script', text='#!%s/plain\n' % here, caps=(1, BIND, 0))
probe('led', text='#!%s/effective\n' % here)
server = socket.create_server(('127.0.0.1', 18793))
secure = 0
for name in ('plain', 'effective', 'permitted', 'inheritable', 'suid', 'none', 'script', 'led',
             'nosuid/effective', 'nosuid/permitted', 'nosuid/suid'):
    for nnp in False, True:
        for clean in False, True:
            env = {} if clean else None
            try:
                p = subprocess.run([here + '/' + name], env=env, preexec_fn=lambda: drop(nnp), capture_output=True, text=True)
            except OSError as e:
                print(name, nnp, clean, e.strerror)
                continue
            print(name, nnp, clean, p.stdout.strip())
            said = p.stderr.split()
            secure += said[0] == '1'
            if 'libmesh' in os.environ.get('LD_PRELOAD', '') and said[0] == said[1]:
                print(name, nnp, clean, 'libmesh is not where it can be')
print(secure, 'secure')
with open('secure', 'w') as f:
    f.write(str(secure))
END
    unshare -m $RUN python3.11 secure.py || return 1
    if [ "$HALF" = mesh ]; then
        until_ok 5 counted
        counted || problem "execs_outside: $(ask sum execs_outside), secure: $(cat secure)"
    fi
}
counted() { [ "$(ask sum execs_outside)" = "$(cat secure)" ]; }
e2e
