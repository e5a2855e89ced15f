package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc (USER_HZ, 100 on every Linux
// that Go runs on).
const clockTick = 10 * time.Millisecond

// stat reads /proc/PID/stat: parent, own CPU time, and that of children that
// have ended and were waited for.
func stat(pid int) (parent int, own, children time.Duration, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0, err
	}
	// The name, in brackets, may hold anything.
	_, rest, ok := bytes.Cut(raw[bytes.LastIndexByte(raw, ')')+1:], []byte(" "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 15 {
		return 0, 0, 0, errors.New("bench: /proc/PID/stat is not as expected")
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
	ticks := func(i int) time.Duration { return time.Duration(number(i)) * clockTick }
	return int(number(1)), ticks(11) + ticks(12), ticks(13) + ticks(14), nil
}

// cpuOf is a process's own CPU time.
func cpuOf(pid int) (time.Duration, error) {
	_, own, _, err := stat(pid)
	return own, err
}

// cpuOfTree is the CPU time of a process, its living children and those that
// have ended: all of PostgreSQL.
func cpuOfTree(pid int) (time.Duration, error) {
	_, own, ended, err := stat(pid)
	if err != nil {
		return 0, err
	}
	sum := own + ended
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		child, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if parent, own, ended, err := stat(child); err == nil && parent == pid {
			sum += own + ended
		}
	}
	return sum, nil
}

// residentOf is the anonymous memory that a process holds, in bytes: what its
// heap, stacks and runtime take, without the program's own pages.
func residentOf(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("bench: no RssAnon in /proc/PID/status")
}

// describeMachine names processor and cores.
func describeMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Arch: runtime.GOARCH}
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		lines := bufio.NewScanner(bytes.NewReader(raw))
		for lines.Scan() {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Processor = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}
