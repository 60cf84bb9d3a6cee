#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# MariaDB: the server speaks first, on accept. Its client over TCP: tables, a 4 MB value both ways,
# an error, eight clients at once, a dump, a bulk load from the client's file.
. "$(dirname "$0")/lib.sh"
need mariadbd mariadb mariadb-dump mariadb-install-db
ports 13306
marker mark-e2e-mariadb-b2e9
pair mariadb mariadbd
pair mariadb-dump mariadbd

body() {
    local rc=0 user= sql="$RUN mariadb --no-defaults -h 127.0.0.1 -P 13306 -u app -papp" i pids=()
    [ "$(id -u)" != 0 ] || user=--user=mysql
    mariadb-install-db --no-defaults $user --datadir="$WORK/db" --skip-test-db --skip-name-resolve \
        >install.log 2>&1 || { tail -3 install.log >&2; return 1; }
    cat >init.sql <<'S'
CREATE DATABASE app;
CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app';
GRANT ALL ON app.* TO app@'127.0.0.1';
S
    chmod 644 init.sql
    bg server $RUN mariadbd --no-defaults $user --datadir="$WORK/db" --port=13306 \
        --bind-address=127.0.0.1 --socket="$WORK/tmp/my.sock" --init-file="$WORK/init.sql" \
        --skip-name-resolve --max-allowed-packet=16M --local-infile=1 --innodb-flush-method=fsync \
        --innodb-buffer-pool-size=32M --pid-file="$WORK/tmp/my.pid"
    listening 13306 || return 1
    until_ok 30 $sql -e 'SELECT 1' app || return 1
    $sql app <<'S' || rc=1
CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB, s VARCHAR(40) DEFAULT 'mark-e2e-mariadb-b2e9');
INSERT INTO t (v) VALUES (REPEAT('abcd', 1000000)), ('small');
SELECT id, LENGTH(v), MD5(v), s FROM t;
SELECT CURRENT_USER(), @@port, CONNECTION_ID() > 0;
S
    $sql -N --max-allowed-packet=16M -e 'SELECT v FROM t WHERE id = 1' app | sum
    { printf "INSERT INTO t (v) VALUES ('"; head -c 4000000 /dev/zero | tr '\0' z; echo "');"; } |
        $sql --max-allowed-packet=16M app && $sql -N -e 'SELECT MD5(v) FROM t WHERE id = 3' app
    $sql -e 'SELECT * FROM missing' app 2>&1
    echo $?
    $sql -pwrong -e 'SELECT 1' app 2>&1
    for i in 1 2 3 4 5 6 7 8; do
        seq 200 | sed "s/.*/INSERT INTO t (v) VALUES ('$i &');/" | $sql app &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || rc=1; done
    $sql -N -e 'SELECT COUNT(*), COUNT(DISTINCT v) FROM t' app
    seq 50000 | sed 's/$/\tmark-e2e-mariadb-b2e9 loaded/' >load.txt
    $sql --local-infile=1 app -N -e "CREATE TABLE l (n INT, s VARCHAR(40));
        LOAD DATA LOCAL INFILE '$WORK/load.txt' INTO TABLE l; SELECT COUNT(*), SUM(n) FROM l"
    $RUN mariadb-dump --no-defaults -h 127.0.0.1 -P 13306 -u app -papp --skip-dump-date --compact \
        app l | sum
    return $rc
}
e2e
