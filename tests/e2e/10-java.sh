#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Java: HttpServer and HttpClient (NIO selectors, thread pools), a blocking ServerSocket with
# blocking Sockets and SO_TIMEOUT, half-close, and FileChannel.transferTo (sendfile).
. "$(dirname "$0")/lib.sh"
need java javac
ports 18150 18151
marker mark-e2e-java-d7c1
pair java java

body() {
    local rc=0 jvm="$RUN java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp $WORK/classes"
    javac -d classes "$E2E/MeshJava.java" || return 1
    bytes 3000000 11 >big
    bg server $jvm MeshJava server 18150 18151 "$WORK/big"
    listening 18150 && listening 18151 || return 1
    $jvm MeshJava client 18150 18151 "$WORK/big"
}
e2e
