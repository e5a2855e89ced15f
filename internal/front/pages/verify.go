package pages

import (
	"net/http"

	"sealgate/internal/front"
)

// VerifyData is what the page shows where signatures are judged.
type VerifyData struct {
	Worker, WASM string // addresses of the script that reads files, and of its PDF reader
	Sample       any    // an answer by language that is there at once (/dev/states)
	Samples      any    // rows that are there at once
}

// maxVerify is how large a signature file the page sends: base64 makes four bytes
// of three, and there is JSON around it.
const maxVerify = front.MaxVerification/4*3 - 64<<10

// Page is what the page's script reads.
func (d VerifyData) Page() map[string]any {
	return map[string]any{"worker": d.Worker, "wasm": d.WASM, "most": maxVerify, "sample": d.Sample, "samples": d.Samples}
}

// verify shows the page where anybody has signatures judged.
func (p *Pages) verify(w http.ResponseWriter, r *http.Request) {
	assets := p.cfg.Shell.StaticAssets()
	p.render.Page(w, r, http.StatusOK, "pages/verify", VerifyData{Worker: assets.URL("verify.worker.js"), WASM: assets.URL("pdf.wasm")})
}
