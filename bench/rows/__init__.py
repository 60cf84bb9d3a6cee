# SPDX-License-Identifier: Apache-2.0
"""The rows of the matrix, one topic a file. Each file has ROWS; a new file needs no other change."""
