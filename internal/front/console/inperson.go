package console

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	domain "sealgate/internal/console"
)

func (d *Door) mountInPerson(chi.Router) {}

func (d *Door) proposeInPerson(*http.Request, *domain.Session, domain.Answer) (string, error) {
	return "", domain.ErrStatement
}
