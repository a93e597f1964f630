package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// maxRedirects is how often a service may point to another of its own paths.
const maxRedirects = 3

// maxHeader bounds the header of an answer in bytes. Intel's chains have 4000.
const maxHeader = 64 << 10

// Base returns the URL that base is, to put paths behind: http or https, a host,
// perhaps a path, and nothing else.
func Base(base string) (string, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", errors.New("not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return "", errors.New("not a URL of https or http")
	case u.Host == "" || u.User != nil || u.ForceQuery || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(base, "#"):
		return "", errors.New("not a URL of host and path alone")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// httpClient returns a copy of c that never goes to another host, or from https
// to http.
func httpClient(c *http.Client) *http.Client {
	var own http.Client
	if c != nil {
		own = *c
	} else {
		own.Transport = &http.Transport{MaxResponseHeaderBytes: maxHeader, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	}
	own.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		from := via[0].URL
		if len(via) > maxRedirects || to.URL.Scheme != from.Scheme || to.URL.Host != from.Host {
			return errRedirect
		}
		return nil
	}
	return &own
}

var errRedirect = errors.New("redirected elsewhere, or too often")

// errSlow is the cause where an attempt had all its time.
var errSlow = errors.New("no answer in time")

// attempt sends one request.
func (c *Client) attempt(ctx context.Context, r Request) (evidence.Collateral, *Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errSlow)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return evidence.Collateral{}, c.fail(0, errors.New("not a URL"))
	}
	// Nothing is unpacked: it would be more than it looks.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.http.Do(req)
	if err != nil {
		e := c.fail(0, cause(ctx, err))
		e.again = !errors.Is(err, errRedirect)
		return evidence.Collateral{}, e
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return evidence.Collateral{}, c.refused(resp)
	}
	body, err := read(resp, r.Limit)
	if err != nil {
		e := c.fail(resp.StatusCode, cause(ctx, err))
		e.again = !errors.Is(err, errContent)
		return evidence.Collateral{}, e
	}
	answer, err := r.Accept(body, resp.Header)
	if err != nil {
		return evidence.Collateral{}, c.fail(resp.StatusCode, err)
	}
	return answer, nil
}

// refused returns the Error of an answer that has no file.
func (c *Client) refused(resp *http.Response) *Error {
	e := &Error{Service: c.cfg.Service, Status: resp.StatusCode}
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		now := time.Now()
		e.again, e.RetryAfter = true, retryAfter(resp.Header, now)
		// It is the service that had enough, of all names.
		c.budget.hold(now, max(e.RetryAfter, min(c.cfg.Every, longestBackoff)))
	case status == http.StatusRequestTimeout, status >= 500:
		e.again = true
	}
	return e
}

// retryAfter returns how long h asks to wait: a number of seconds, or a time by
// the clock that wrote it.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longestPause)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), longestPause)
}

// errContent is wrapped by the errors of answers that no second attempt mends.
var errContent = errors.New("not to be read")

// read reads an answer of at most limit bytes, as it is.
func read(resp *http.Response, limit int64) ([]byte, error) {
	encoding := resp.Header.Get("Content-Encoding")
	switch {
	case encoding != "" && encoding != "identity", resp.Uncompressed:
		return nil, fmt.Errorf("%w: compressed", errContent)
	case resp.ContentLength > limit:
		return nil, fmt.Errorf("%w: %d bytes", errContent, resp.ContentLength)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", errContent, limit)
	}
	return body, nil
}
