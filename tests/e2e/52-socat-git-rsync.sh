#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs on connections that somebody else accepted: socat with EXEC (a child of its own for each
# connection, and nofork: socat itself becomes the program), git daemon with clone, push and fetch, and
# an rsync daemon that goes into a chroot and gives up root.
. "$(dirname "$0")/lib.sh"
need socat git rsync python3.11
ports 18720 18721 18722 18723 18724
marker mark-e2e-moved-1c90
pair socat socat
pair rsync rsync
pair git git-daemon

G() { $RUN git -c user.name=n -c user.email=e@example.org -c init.defaultBranch=main -c gc.auto=0 "$@"; }

with_socat() {
    local rc=0 p
    cat >upper.py <<'END'
import os
while data := os.read(0, 65536):
    os.write(1, data.upper())
END
    # In pieces that a writable pipe always takes: with more, socat waits in write() for a program that
    # waits in write() for socat. And time for a program that is not scheduled for a while.
    bg pipes $RUN socat -b 4096 -t 2 TCP-LISTEN:18720,bind=127.0.0.1,reuseaddr,fork EXEC:'python3.11 upper.py',pipes
    listening 18720
    bg nofork $RUN socat TCP-LISTEN:18721,bind=127.0.0.1,reuseaddr,fork \
        EXEC:'python3.11 upper.py',nofork
    listening 18721
    bg pty $RUN socat TCP-LISTEN:18722,bind=127.0.0.1,reuseaddr,fork \
        EXEC:'python3.11 upper.py',pty,raw,echo=0
    listening 18722
    for p in 18720 18721 18722; do
        echo "mark-e2e-moved-1c90 $p" | $RUN socat -t 60 - "TCP:127.0.0.1:$p"
    done
    for p in 18720 18721; do
        $RUN socat -t 60 - "TCP:127.0.0.1:$p" <text | cmp - TEXT && echo "$p: same" || rc=1
    done
    return $rc
}

with_git() {
    local rc=0 url=git://127.0.0.1:18723/repo.git
    G init -q --bare srv/repo.git && touch srv/repo.git/git-daemon-export-ok
    bg git $RUN git daemon --listen=127.0.0.1 --port=18723 --reuseaddr --base-path="$WORK/srv" \
        --enable=receive-pack
    listening 18723 || return 1
    G clone -q $url one 2>&1
    cp data one/ && echo mark-e2e-moved-1c90 >one/marker
    G -C one add . && G -C one commit -qm first && G -C one push -q origin main || rc=1
    G clone -q $url two && cmp data two/data && echo 'clone: same' || rc=1
    echo more >>one/marker && G -C one commit -qam second && G -C one push -q origin main || rc=1
    G -C two pull -q && cat two/marker
    G ls-remote $url main | cut -f2
    G clone -q git://127.0.0.1:18723/none.git 2>&1 | sed 's/repository.*/repository/'
    return $rc
}

with_rsync() {
    local rc=0 here=rsync://127.0.0.1:18724
    mkdir -p module drop from/deep && cp data text from/ && cp text from/deep/ && chmod 777 drop
    cp data module/
    printf '%s\n' "log file = $WORK/rsync.log" 'use chroot = yes' 'uid = nobody' 'gid = nogroup' \
        '[read]' "path = $WORK/module" '[drop]' "path = $WORK/drop" 'read only = no' >rsyncd.conf
    bg rsyncd $RUN rsync --daemon --no-detach --address=127.0.0.1 --port=18724 \
        --config="$WORK/rsyncd.conf"
    listening 18724 || return 1
    $RUN rsync $here/
    $RUN rsync -a $here/read/ got/ && cmp data got/data && echo 'rsync down: same' || rc=1
    $RUN rsync -rz from/ $here/drop/ && diff -r from drop && echo 'rsync up: same' || rc=1
    stat -c '%U %n' drop/data
    echo mark-e2e-moved-1c90 >>from/text
    $RUN rsync -r --delete --checksum from/ $here/drop/ && diff -r from drop && echo 'again: same' || rc=1
    $RUN rsync -r from/ $here/read/ 2>&1 | sed -n 's/^\(@ERROR[^(]*\).*/\1/p; s/^ERROR: //p'
    return $rc
}

body() {
    local rc=0
    bytes 2000000 5 >data
    base64 -w 76 data | tr A-Z a-z | head -c 700000 >text
    tr a-z A-Z <text >TEXT
    with_socat || rc=1
    with_git || rc=1
    with_rsync || rc=1
    return $rc
}
e2e
