package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// LibraryDefault, as Config.DownloadFrom, is the repository that the
// embedded-postgres library itself names.
const LibraryDefault = "default"

// versions are the builds embedded-postgres knows, by major version; "" is
// for a new database directory.
var versions = map[string]embedded.PostgresVersion{
	"": embedded.V18, "18": embedded.V18, "17": embedded.V17, "16": embedded.V16, "15": embedded.V15,
}

// download gets the server programs into dir, or finds what an earlier call
// got. Only the download and the unpacking of embedded-postgres are used: its
// server listens on TCP, does not run for root, and clears data directories it
// does not understand. As it offers no way to unpack alone, it is given an
// encoding that initdb refuses, so that it stops after unpacking.
//
// The library checks the archive against the SHA-256 sum beside it, which
// guards against damage, not against a dishonest repository.
func download(ctx context.Context, dir, repository, major string, log io.Writer) (Binaries, error) {
	programs := filepath.Join(dir, "bin")
	if b, err := Find(ctx, programs, major); err == nil {
		return b, nil
	}
	version, ok := versions[major]
	if !ok {
		return Binaries{}, fmt.Errorf("%w; there is no build of version %s to download", ErrNoBinaries, major)
	}
	port, err := freePort()
	if err != nil {
		return Binaries{}, fmt.Errorf("cluster: %w", err)
	}
	scratch, err := os.MkdirTemp("", "sgpg")
	if err != nil {
		return Binaries{}, fmt.Errorf("cluster: %w", err)
	}
	defer os.RemoveAll(scratch)
	from := embedded.DefaultConfig()
	if repository != LibraryDefault {
		from = from.BinaryRepositoryURL(repository)
	}
	server := embedded.NewDatabase(from.Version(version).Logger(log).Port(port).
		BinariesPath(dir).CachePath(filepath.Join(scratch, "cache")).RuntimePath(filepath.Join(scratch, "run")).
		Encoding("none: unpack only"))
	// The library knows no context; a download that hangs is left behind.
	result := make(chan error, 1)
	go func() { result <- server.Start() }()
	select {
	case <-ctx.Done():
		return Binaries{}, fmt.Errorf("cluster: download from %s: %w", repository, ctx.Err())
	case err = <-result:
	}
	if err == nil { // it should not have; it must not go on
		err = server.Stop()
	}
	b, findErr := Find(ctx, programs, major)
	if findErr != nil {
		return Binaries{}, fmt.Errorf("%w; download from %s: %w", ErrNoBinaries, repository, errors.Join(err, findErr))
	}
	return b, nil
}

// freePort is a TCP port nobody listens on now: the library checks its port
// before it does anything.
func freePort() (uint32, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return uint32(l.Addr().(*net.TCPAddr).Port), nil
}
