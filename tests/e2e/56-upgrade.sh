#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs that are replaced while they serve: nginx executes its new binary, which inherits the
# listeners (USR2, WINCH, QUIT); HAProxy's new process fetches them from the old one by SCM_RIGHTS
# (-x), or takes over without (-sf alone); a reload of each. Under load, and no request fails; but
# HAProxy without -x resets what waits in its listener's queue, bare too: no new load then.
. "$(dirname "$0")/lib.sh"
need nginx haproxy curl
ports 18760 18761
marker mark-e2e-upgrade-d07c
pair curl haproxy
pair haproxy nginx

conf() {
    cat >nginx.conf <<END
pid $WORK/nginx.pid;
error_log $WORK/nginx.err info;
user www-data;
worker_processes 2;
events { worker_connections 256; }
http {
    access_log off;
    server { listen 127.0.0.1:18761; root $WORK/htdocs; }
}
END
    cat >haproxy.conf <<END
global
    stats socket $WORK/haproxy.sock expose-fd listeners level admin
    chroot $WORK/empty
    user nobody
    hard-stop-after 20s
defaults
    mode http
    timeout connect 20s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:18760
    default_backend out
backend out
    server nginx 127.0.0.1:18761
END
    mkdir -p htdocs empty
    cp data htdocs/ && echo mark-e2e-upgrade-d07c >htdocs/marker && chmod -R a+rX htdocs
}

changed() { # between its rename and the new one there is no such file
    local now
    now=$(cat "$1" 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$2" ]
}
is_over() { # a zombie of ours has ended, too
    is_gone "$1" || grep -q '^State:.Z' "/proc/$1/status"
}

upgrade_nginx() {
    local old new
    old=$(cat nginx.pid)
    kill -USR2 "$old"
    until_ok 30 changed nginx.pid "$old" || return 1
    new=$(cat nginx.pid)
    load_more 2
    kill -WINCH "$old"
    load_more 2
    kill -QUIT "$old"
    until_ok 30 is_over "$old"
    load_more 2
    kill -HUP "$new"
    load_more 3
    echo 'nginx: replaced and reloaded'
}

replace_haproxy() { # further options
    local old
    old=$(cat haproxy.pid)
    : >haproxy.pid
    $RUN haproxy -D -f haproxy.conf -p haproxy.pid -sf "$old" "$@" || return 1
    until_ok 30 changed haproxy.pid "$old" || return 1
    if [ $# = 0 ]; then
        until_ok 30 is_over "$old"
        load 3 http://127.0.0.1:18760/data data
    fi
    load_more 2
    until_ok 30 is_over "$old"
    load_more 2
    echo 'haproxy: replaced'
}

body() {
    local rc=0
    bytes 700000 5 >data
    conf
    $RUN /usr/sbin/nginx -c "$WORK/nginx.conf" && $RUN haproxy -D -f haproxy.conf -p haproxy.pid || return 1
    BG=$$
    listening 18761 && listening 18760 || return 1
    $RUN curl -sS http://127.0.0.1:18760/marker
    load 3 http://127.0.0.1:18760/data data
    upgrade_nginx || rc=1
    upgrade_nginx || rc=1
    replace_haproxy -x "$WORK/haproxy.sock" || rc=1
    replace_haproxy -x "$WORK/haproxy.sock" || rc=1
    load_end || rc=1
    replace_haproxy || rc=1
    load_end || rc=1
    $RUN curl -sS http://127.0.0.1:18760/marker
    return $rc
}
meshed() { ask endpoint 18760 && ask endpoint 18761; }
e2e
