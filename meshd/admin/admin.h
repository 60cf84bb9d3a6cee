/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_admin: HTTP for machines: GET /metrics (Prometheus text 0.0.4) and /healthz. Read-only. Main
 * thread only.
 */
#ifndef MESHD_ADMIN_ADMIN_H
#define MESHD_ADMIN_ADMIN_H

/* Serves at `listen`: "ADDR:PORT", "unix:/PATH" or "off". An address that is taken or wrong is a
 * warning: meshd's work does not depend on being watched. */
void meshd_admin_init(const char *listen);
void meshd_admin_fini(void);

#endif
