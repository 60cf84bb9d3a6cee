# SPDX-License-Identifier: Apache-2.0
"""Configuration files: those of bench/conf, with the words between @ replaced."""
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
CONF = os.path.join(os.path.dirname(HERE), 'conf')
CERTS = None  # the directory of this run's certificates


def write(template, where, **words):
    with open(os.path.join(CONF, template)) as f:
        text = re.sub(r'@(\w+)@', lambda m: str(words[m.group(1)]), f.read())
    path = os.path.join(where, template)
    with open(path, 'w') as f:
        f.write(text)
    return path


def openssl(name, groups):
    """A file for $OPENSSL_CONF, for programs that cannot be told TLS 1.3's suite otherwise."""
    path = os.path.join(CERTS, name)
    with open(path, 'w') as f:
        f.write('openssl_conf = top\n[top]\nssl_conf = tls\n[tls]\nsystem_default = all\n[all]\n'
                'Ciphersuites = TLS_AES_128_GCM_SHA256\nGroups = %s\n' % groups)
    return {'OPENSSL_CONF': path}


def tls_options(certs, side):
    """meshload's."""
    if not certs:
        return []
    return ['--cert', '%s/%s.pem' % (certs, side), '--key', '%s/%s.key' % (certs, side), '--ca', certs + '/ca.pem']
