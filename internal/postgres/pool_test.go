package postgres_test

import (
	"testing"

	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// A machine that dies must not keep its locks: the server is told how long it
// may wait for a node inside a transaction, whatever opened the connection.
func TestConnectionsLetGo(t *testing.T) {
	pool, err := postgres.Open(t.Context(), pgtest.URL(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var idle string
	if err := pool.QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&idle); err != nil || idle != "30s" {
		t.Fatalf("%q %v", idle, err)
	}
}
