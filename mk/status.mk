# SPDX-License-Identifier: Apache-2.0
#
# The status socket, the metrics, a reload and meshctl, on a real meshd.

.PHONY: doc-config
doc-config: $(B)/meshd ## make conf/meshd.conf and meshd.conf(5) from the table of keys
	@BUILD=$(B) scripts/doc-config

.PHONY: check-status
check-status: all ## meshd's sockets under hostile, slow and very many clients
	@BUILD=$(B) scripts/doc-config --check
	@E2E_BUILD=$(CURDIR)/$(B) tests/e2e/status_abuse.py
