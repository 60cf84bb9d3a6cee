/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of all parts: libmesh.so, meshd and meshctl are released together.
 */
#ifndef MESH_VERSION_H
#define MESH_VERSION_H

#define MESH_VERSION "0.1.0"

#endif
