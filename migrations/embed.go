// Package migrations carries the database schema as numbered SQL files, run
// in order by internal/postgres/migrate. A file that has been released is
// never changed; a new number is added.
package migrations

import "embed"

// FS holds the *.sql files at its root.
//
//go:embed *.sql
var FS embed.FS
