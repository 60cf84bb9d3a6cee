/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_confwatch: the configuration's files are watched, and a change is taken as SIGHUP is, when it has come to
 * rest. Main thread only.
 *
 * Directories are watched, not files, for editors and configuration management replace files by rename,
 * and mounted config maps swap a symbolic link beside them. An event only says that it is time to
 * look: what counts is whether another file, or other content, is found under the names that a reload
 * would read. So whatever else is written in these directories costs a few stat() and no reload.
 */
#ifndef MESHD_DISCOVERY_CONFWATCH_H
#define MESHD_DISCOVERY_CONFWATCH_H

#include "mesh/err.h"

/* reload() is called from the event loop; it is to call meshd_confwatch_note. Watches what
 * meshd_config_info says was loaded; without a file there is nothing to do. MESH_OK without inotify too:
 * then it is looked at now and then. */
typedef void meshd_confwatch_reload(void);
enum mesh_err meshd_confwatch_init(meshd_confwatch_reload *reload) MESH_MUST_CHECK;
void meshd_confwatch_fini(void);

/* The files are about to be read, for whatever reason: from how they are now on. */
void meshd_confwatch_note(void);

#endif
