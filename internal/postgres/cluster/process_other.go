//go:build unix && !linux

package cluster

import "syscall"

// dieWithParent does nothing: there is no parent-death signal here. A server
// left behind is noticed at the next start.
func dieWithParent(*syscall.SysProcAttr) {}

// parentAlive cannot be told cheaply here; "yes" means: do not wait.
func parentAlive(int) bool { return true }
