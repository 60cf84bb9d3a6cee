#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# php-fpm on TCP behind nginx (children as www-data; reloaded under load: it executes itself and hands
# its listener on by a variable), PHP's own server with four workers, and Ruby's WEBrick with CGI; and PHP's
# sockets, an extension, which PHP loads with RTLD_DEEPBIND.
. "$(dirname "$0")/lib.sh"
need nginx curl php php-fpm8.2 ruby
ports 18780 18781 18782 18783 18784
marker mark-e2e-php-0d5e
pair curl nginx
pair nginx php-fpm8.2
pair curl php8.2
pair curl ruby3.1
pair php8.2 php8.2

conf() {
    cat >fpm.conf <<END
[global]
pid = $WORK/fpm.pid
error_log = $WORK/fpm.err
daemonize = no
process_control_timeout = 10s
[www]
user = www-data
group = www-data
listen = 127.0.0.1:18781
pm = static
pm.max_children = 3
END
    cat >nginx.conf <<END
pid $WORK/nginx.pid;
error_log $WORK/nginx.err;
daemon off;
worker_processes 1;
user www-data;
events { worker_connections 256; }
http {
    access_log off;
    client_max_body_size 10m;
    client_body_temp_path $WORK/body;
    fastcgi_temp_path $WORK/fcgi;
    server {
        listen 127.0.0.1:18780;
        root $WORK/www;
        location / {
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME $WORK/www/echo.php;
            fastcgi_pass 127.0.0.1:18781;
        }
    }
}
END
    mkdir -p www body fcgi && chown www-data body fcgi
    cat >www/echo.php <<'END'
<?php
$in = file_get_contents('php://input');
if ($in === '') {
    readfile(__DIR__ . '/data');
} else {
    echo $_SERVER['REQUEST_METHOD'], ' ', strlen($in), ' ', sha1($in), " mark-e2e-php-0d5e\n";
    echo posix_getpwuid(posix_geteuid())['name'], "\n";
}
END
    cat >sockets.php <<'END'
<?php
$listener = socket_create(AF_INET, SOCK_STREAM, 0);
socket_set_option($listener, SOL_SOCKET, SO_REUSEADDR, 1);
socket_bind($listener, '127.0.0.1', 18784) && socket_listen($listener, 5) || exit(1);
if (pcntl_fork() == 0) {
    $c = socket_accept($listener);
    while (($in = socket_read($c, 65536)) !== '' && $in !== false) {
        socket_write($c, strtoupper($in));
    }
    exit(0);
}
$c = socket_create(AF_INET, SOCK_STREAM, 0);
socket_connect($c, '127.0.0.1', 18784) || exit(2);
socket_write($c, "sockets: mark-e2e-php-0d5e\n");
$read = [$c]; $none = null;
echo 'readable: ', socket_select($read, $none, $none, 20), ', ', socket_read($c, 1000);
socket_close($c);
pcntl_wait($status);
echo 'exit code ', pcntl_wexitstatus($status), "\n";
END
    cp data www/ && chmod -R a+rX www
    cat >webrick.rb <<'END'
require 'webrick'
s = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: 18783, DocumentRoot: 'www',
                            AccessLog: [], Logger: WEBrick::Log.new(nil, 0))
s.mount('/cgi', WEBrick::HTTPServlet::CGIHandler, File.expand_path('cgi.rb'))
s.start
END
    printf '%s\n' '#!/usr/bin/ruby' "print \"Content-Type: text/plain\\r\\n\\r\\n\"" \
        'b = $stdin.read; puts "#{b.bytesize} #{b.sum}"' >cgi.rb
    chmod 755 cgi.rb
}

serves() { # url
    local rc=0
    $RUN curl -sS "$1/" | cmp - data && echo "$1: same" || rc=1
    $RUN curl -sS --data-binary @data -H Expect: "$1/?x" || rc=1
    $RUN curl -sS --data-binary short "$1/" || rc=1
    return $rc
}

reloaded() { [ "$(grep -c 'ready to handle connections' fpm.err)" -ge "$1" ]; }

body() {
    local rc=0
    bytes 600000 5 >data
    conf
    bg fpm $RUN php-fpm8.2 -y "$WORK/fpm.conf"
    FPM=$BG
    listening 18781
    bg nginx $RUN nginx -c "$WORK/nginx.conf"
    listening 18780
    bg php env PHP_CLI_SERVER_WORKERS=4 $RUN php -S 127.0.0.1:18782 "$WORK/www/echo.php"
    listening 18782
    bg ruby $RUN ruby webrick.rb
    listening 18783
    serves http://127.0.0.1:18780 || rc=1
    serves http://127.0.0.1:18782 || rc=1
    $RUN curl -sS http://127.0.0.1:18783/data | cmp - data && echo 'webrick: same' || rc=1
    $RUN curl -sS --data-binary @data http://127.0.0.1:18783/cgi
    $RUN php sockets.php
    load 2 http://127.0.0.1:18780/ data
    kill -USR2 "$FPM"
    until_ok 30 reloaded 2
    load_more 3
    load_end || rc=1
    serves http://127.0.0.1:18780 || rc=1
    return $rc
}
e2e
