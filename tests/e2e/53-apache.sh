#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Apache with children that take turns at one listener (prefork) and with threads (event): files,
# keep-alive, ranges, uploads, CGI programs, two graceful restarts under load with no failed request.
. "$(dirname "$0")/lib.sh"
need apache2 curl perl
ports 18730 18731
marker mark-e2e-apache-77aa
pair curl apache2

conf() { # mpm cgi-module port
    local m
    printf '%s\n' "ServerRoot $WORK" "PidFile $WORK/$1.pid" "ErrorLog $WORK/$1.err" \
        "Listen 127.0.0.1:$3" 'ServerName localhost' 'User www-data' 'Group www-data' \
        "DocumentRoot $WORK/htdocs" "DefaultRuntimeDir $WORK/run.$1" 'KeepAliveTimeout 60' \
        'StartServers 2' 'Timeout 60' 'GracefulShutDownTimeout 20'
    for m in "mpm_$1" authz_core dir mime alias env headers "$2"; do
        printf 'LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n' "$m" "$m"
    done
    [ "$2" = cgi ] || printf 'ScriptSock %s\n' "$WORK/run.$1/cgisock"
    printf '%s\n' 'TypesConfig /etc/mime.types' "ScriptAlias /cgi/ $WORK/cgi/" \
        "<Directory $WORK>" 'Require all granted' '</Directory>'
}

programs() {
    mkdir -p cgi htdocs run.prefork run.event
    cat >cgi/echo.pl <<'END'
#!/usr/bin/perl
binmode STDIN; binmode STDOUT;
local $/;
my $body = <STDIN>;
print "Content-Type: application/octet-stream\r\n\r\n$ENV{REQUEST_METHOD} ", length $body, "\n", $body;
END
    # Its parts go out one by one.
    cat >cgi/slow.sh <<'END'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
for i in 1 2 3; do printf 'part %s\n' $i; sleep 0.02; done
echo "I am $(id -un)"
END
    chmod 755 cgi/*
    cp data htdocs/ && echo mark-e2e-apache-77aa >htdocs/marker.txt
    chmod -R a+rX htdocs cgi
}

ask_for() { $RUN curl -sS --max-time 60 "$@"; }

resumed() { [ "$(grep -c 'resuming normal operations' "$1.err")" -ge "$2" ]; }

serve() { # mpm cgi-module port
    local rc=0 url=http://127.0.0.1:$3 i
    conf "$@" >"$1.conf"
    # It ends its whole process group.
    bg "$1" setsid $RUN apache2 -DFOREGROUND -f "$WORK/$1.conf"
    listening "$3" || return 1
    ask_for $url/marker.txt
    ask_for $url/data | cmp - data && echo 'file: same' || rc=1
    ask_for -r 100-299 $url/data | cmp - <(head -c 300 data | tail -c 200) && echo 'range: same' || rc=1
    ask_for $url/marker.txt $url/marker.txt $url/none -w '%{http_code} %{num_connects}\n' | grep -v '^<'
    ask_for $url/cgi/echo.pl --data-binary @data >echoed
    head -1 echoed
    tail -c 1500000 echoed | cmp - data || rc=1
    ask_for -T data -H Expect: $url/cgi/echo.pl >echoed
    head -1 echoed
    ask_for $url/cgi/slow.sh
    load 3 $url/data data
    for i in 1 2; do
        kill -USR1 "$BG"
        until_ok 30 resumed "$1" $((i + 1))
        load_more 2
    done
    load_end || rc=1
    echo 'restarted twice'
    stop "$BG"
    return $rc
}

body() {
    local rc=0
    bytes 1500000 5 >data
    programs
    serve prefork cgi 18730 || rc=1
    serve event cgid 18731 || rc=1
    return $rc
}
meshed() { [ "$(ask sum handshakes)" -gt 20 ]; }
e2e
