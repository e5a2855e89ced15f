package citizen

import "testing"

// VaultForTests gives the tests outside the package a vault with a fixed key.
func VaultForTests(t *testing.T) *Vault { return testVault(t, 7) }
