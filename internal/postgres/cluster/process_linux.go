package cluster

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent asks the kernel for a fast shutdown of the child when the
// thread that started it ends, as it does when we are killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// parentAlive says whether the process still has the parent that started it,
// that is, was not handed to init.
func parentAlive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// pid (comm) state ppid …; comm may hold spaces and brackets.
	_, rest, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
	if !ok {
		return false
	}
	var state string
	var ppid int
	if _, err := fmt.Sscan(string(rest), &state, &ppid); err != nil {
		return false
	}
	return ppid > 1
}
