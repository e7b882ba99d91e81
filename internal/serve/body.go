package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// maxBody bounds what a request may say.
const maxBody = 4 << 10

// StatusError is why a request is refused, and how.
type StatusError struct {
	Status int
	Text   string // one line
}

func (e *StatusError) Error() string { return e.Text }

// Refusef makes a StatusError.
func Refusef(status int, format string, args ...any) error {
	return &StatusError{status, fmt.Sprintf(format, args...)}
}

// Refuse answers with an error: a StatusError as it says, any other as 503.
func Refuse(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	if refused, ok := errors.AsType[*StatusError](err); ok {
		status = refused.Status
	}
	http.Error(w, err.Error(), status)
}

// ReadJSON reads the request's body, of at most 4 KiB, as JSON of exactly the given form; an empty one changes nothing. Its errors are
// StatusErrors. The type of the content must be given, which a page of another origin cannot do without having asked.
func ReadJSON(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return Refusef(http.StatusUnsupportedMediaType, "want Content-Type: application/json")
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		var more json.RawMessage
		if err = decoder.Decode(&more); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Refusef(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", maxBody)
	}
	return Refusef(http.StatusBadRequest, "the body is not JSON of its form: %v", err)
}
