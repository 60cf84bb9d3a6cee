# SPDX-License-Identifier: Apache-2.0
"""The certificates of everybody who is not the mesh: P-256, one leaf for each side under one authority."""
import os
import subprocess


def make(where):
    def openssl(*cmd):
        subprocess.run(('openssl',) + cmd, cwd=where, check=True, capture_output=True)

    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key',
            '-out', 'ca.pem', '-days', '2', '-subj', '/CN=bench authority')
    for side in ('client', 'server'):
        with open(where + '/ext', 'w') as f:
            f.write('subjectAltName=DNS:bench,IP:127.0.0.1,IP:10.77.0.1,IP:10.77.0.2\n'
                    'extendedKeyUsage=clientAuth,serverAuth\nbasicConstraints=critical,CA:FALSE\n')
        openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', side + '.key',
                '-out', side + '.csr', '-subj', '/CN=' + side)
        openssl('x509', '-req', '-in', side + '.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
                '-days', '2', '-out', side + '.pem', '-extfile', 'ext')
        with open(os.path.join(where, side + '.both'), 'w') as f:
            for name in (side + '.pem', side + '.key'):
                with open(os.path.join(where, name)) as g:
                    f.write(g.read())
    # Servers that give their privileges up read them all the same; they are gone with the run.
    for name in os.listdir(where):
        os.chmod(os.path.join(where, name), 0o644)
