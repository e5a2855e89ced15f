package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// HTTP is what one JSON call costs that does nothing, through the same shell.
type HTTP struct {
	PerSecond float64 `json:"calls_per_second"`
	ServerMS  float64 `json:"server_cpu_ms_per_call"`
}

// measureHTTP loads the call that does nothing with bodies of a kilobyte.
func (r *rig) measureHTTP(ctx context.Context, cfg Config) (*HTTP, error) {
	body, err := json.Marshal(emptyBody{Filler: strings.Repeat("x", 1000)})
	if err != nil {
		return nil, err
	}
	cfg.Duration = min(cfg.Duration, 4*time.Second)
	load, err := r.load(ctx, cfg, []string{"call"}, func(ctx context.Context, l *lap) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Empty, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		var out []byte
		err = r.do(req, http.StatusOK, &out)
		l.step()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &HTTP{PerSecond: load.PerSecond, ServerMS: load.Server.MS}, nil
}
