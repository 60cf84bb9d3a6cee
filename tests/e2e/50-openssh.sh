#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# OpenSSH with Debian's own configuration: sshd executes itself for each connection with an
# environment of its own, its child is in a chroot, has another user and a seccomp filter that kills
# it for recvfrom and sendto, and its parent goes on with the connection. Key login, commands, a
# terminal, long output, a refused key, scp, sftp, a forwarded port, a shared connection.
. "$(dirname "$0")/lib.sh"
need sshd ssh scp sftp ssh-keygen
ports 18700
marker mark-e2e-openssh-5e1f # in the greeting: the rest is encrypted anyway
pair ssh sshd

keys() {
    local k
    for k in host user other; do ssh-keygen -q -t ed25519 -N '' -C "$k" -f "$k" || return 1; done
    cp user.pub authorized
    printf '%s\n' 'Port 18700' 'User root' 'IdentitiesOnly yes' "IdentityFile $WORK/user" \
        'StrictHostKeyChecking no' 'LogLevel ERROR' "UserKnownHostsFile $WORK/known" \
        'Host noisy' 'HostName 127.0.0.1' >ssh.conf
}

body() {
    local rc=0 here=127.0.0.1
    mkdir -p /run/sshd && keys || return 1
    bytes 3000000 5 >data
    bg sshd $RUN /usr/sbin/sshd -D -e -p 18700 -h "$WORK/host" -o PidFile=none -o StrictModes=no \
        -o VersionAddendum=mark-e2e-openssh-5e1f \
        -o "AuthorizedKeysFile=$WORK/authorized"
    listening 18700 || return 1
    local ssh="$RUN ssh -F ssh.conf"
    $ssh $here 'echo hello; id -un; exit 7'
    echo "exit code $?"
    echo 'from standard input' | $ssh $here 'cat; echo to stderr >&2' 2>&1
    $ssh -tt $here 'test -t 0 && stty size >/dev/null && echo a terminal' </dev/null | tr -d '\r'
    $ssh $here cat <data | cmp - data && echo 'through cat: same' || rc=1
    $ssh -o Ciphers=aes128-ctr -C $here "cat $WORK/data" | cmp - data && echo 'cat: same' || rc=1
    $ssh -i other -o "IdentityFile=$WORK/other" -F none -p 18700 -o BatchMode=yes \
        -o "UserKnownHostsFile=$WORK/known" root@$here true 2>&1 | sed 's/.*Permission/Permission/'
    $RUN scp -q -F ssh.conf data "$here:$WORK/scp.up" && cmp data scp.up && echo 'scp: same' || rc=1
    $RUN scp -q -O -F ssh.conf "$here:$WORK/data" scp.down && cmp data scp.down &&
        echo 'old scp: same' || rc=1
    printf '%s\n' "put data $WORK/sftp.up" "get $WORK/data sftp.down" "ls $WORK/sftp.up" |
        $RUN sftp -q -F ssh.conf -b - $here 2>&1 | sed "s|$WORK|WORK|g"
    cmp data sftp.up && cmp data sftp.down && echo 'sftp: same' || rc=1
    $ssh -W 127.0.0.1:18700 $here </dev/null | head -c 7
    echo
    $ssh -M -N -f -o "ControlPath=$WORK/ctl" $here &&
        $ssh -S ctl $here 'echo over the shared connection' && $ssh -S ctl -O exit $here 2>&1
    return $rc
}
e2e
