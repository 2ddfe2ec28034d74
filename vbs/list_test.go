package vbs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestVolumeAndBackupAsCinderSendsThem(t *testing.T) {
	volume := `{"volume": {"id": "` + volumeID + `", "status": "in-use", "size": 1, "availability_zone": "nova", "created_at": "2026-11-23T13:53:54.000000", "updated_at": null, "name": "one", "description": null, "volume_type": "__DEFAULT__", "metadata": {"src_backup_id": "b", "n": 1}, "links": [], "bootable": "true", "encrypted": false, "attachments": [{"server_id": "s1", "device": "/dev/vdb", "attachment_id": "a"}], "os-vol-tenant-attr:tenant_id": "x"}}`
	backup := `{"backup": {"id": "` + backupID + `", "status": "available", "size": "2", "object_count": 32, "container": "c", "created_at": "2026-11-23T13:53:34.123456Z", "updated_at": "2026-11-23T13:53:54", "name": null, "fail_reason": null, "volume_id": "` + volumeID + `", "is_incremental": true, "has_dependent_backups": false, "snapshot_id": null, "data_timestamp": "2026-11-23 13:53:34"}}`
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "Mon, 23 Nov 2026 14:00:00 GMT")
		switch r.URL.Path {
		case "/v3/" + projectID + "/volumes/" + volumeID:
			cinder(w, 200, volume)
		case "/v3/" + projectID + "/native/backups/" + backupID:
			cinder(w, 200, backup)
		default:
			t.Errorf("asked for %s", r.URL)
		}
	})
	c := s.open(Options{})
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	v, err := c.Volume(context.Background(), volumeID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Volume{
		ID: volumeID, Name: "one", Status: "in-use", SizeGiB: 1, Type: "__DEFAULT__", Zone: "nova",
		Metadata: map[string]string{"src_backup_id": "b", "n": "1"}, Attachments: []Attachment{{"s1", "/dev/vdb"}},
		Created: time.Date(2026, 11, 23, 13, 53, 54, 0, time.UTC), Bootable: true, CloudTime: at,
	}, v); diff != "" {
		t.Error(diff)
	}
	b, err := c.Backup(context.Background(), backupID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Backup{
		ID: backupID, Status: "available", VolumeID: volumeID, SizeGiB: 2, Incremental: true,
		DataTime:  time.Date(2026, 11, 23, 13, 53, 34, 0, time.UTC),
		Created:   time.Date(2026, 11, 23, 13, 53, 34, 123456000, time.UTC),
		Updated:   time.Date(2026, 11, 23, 13, 53, 54, 0, time.UTC),
		CloudTime: at,
	}, b); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersThatMakeNoSenseAreErrors(t *testing.T) {
	for name, body := range map[string]string{
		"HTML":          "<html>please log in</html>",
		"nothing":       "",
		"empty object":  "{}",
		"another":       `{"volume": {"id": "other", "status": "available"}}`,
		"no status":     `{"volume": {"id": "` + volumeID + `"}}`,
		"cut off":       `{"volume": {"id": "` + volumeID + `", "sta`,
		"larger than 1": `{"volume": {"id": "` + volumeID + `", "status": "available", "x": "` + strings.Repeat("x", maxSingle) + `"}}`,
	} {
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { cinder(w, 200, body) })
		_, err := s.open(Options{}).Volume(context.Background(), volumeID)
		if e := asError(t, err); e.Executed != ExecutedNo || IsGone(err) || e.Err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestGoneIsReportedAsSuch(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		cinder(w, 404, `{"itemNotFound": {"code": 404, "message": "Volume `+volumeID+` could not be found."}}`)
	})
	c := s.open(Options{})
	if _, err := c.Volume(context.Background(), volumeID); !IsGone(err) {
		t.Errorf("got %v", err)
	}
	if err := c.DeleteVolume(context.Background(), volumeID); !IsGone(err) {
		t.Errorf("got %v", err)
	}
}

// shelf serves n volumes in pages as Cinder does, with links to an internal
// host that nobody may follow.
func shelf(t *testing.T, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		limit, err := strconv.Atoi(q.Get("limit"))
		if err != nil {
			t.Errorf("limit: %v", err)
		}
		start := 0
		if m := q.Get("marker"); m != "" {
			start, _ = strconv.Atoi(m[1:])
			start++
		}
		var items []string
		for i := start; i < min(n, start+limit); i++ {
			items = append(items, fmt.Sprintf(`{"id": "v%d", "status": "available", "size": 1}`, i))
		}
		links := ""
		if len(items) == limit {
			links = `, "volumes_links": [{"rel": "next", "href": "http://192.168.82.222:8776/v2/x/volumes?limit=1&offset=1"}]`
		}
		cinder(w, 200, `{"volumes": [`+strings.Join(items, ",")+`]`+links+`}`)
	}
}

func TestAllPagesByMarker(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 11, 30, 35} {
		s := newServer(t, shelf(t, n))
		all, err := s.open(Options{}).Volumes(context.Background(), VolumeQuery{Limit: 10})
		if err != nil || len(all) != n {
			t.Errorf("%d of %d, %v", len(all), n, err)
		}
		if _, calls := s.counts(); calls != n/10+1 {
			t.Errorf("%d volumes took %d calls", n, calls)
		}
	}
}

func TestAPageShorterThanAskedForGoesOnWhereTheCloudSaysNext(t *testing.T) {
	s := newServer(t, nil)
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("marker") == "" {
			cinder(w, 200, `{"backups": [{"id": "b1", "status": "available"}], "backups_links": [{"rel": "next", "href": "http://internal.invalid/"}]}`)
			return
		}
		cinder(w, 200, `{"backups": [{"id": "b1", "status": "available"}, {"id": "b2", "status": "available"}]}`)
	}
	all, err := s.open(Options{}).Backups(context.Background(), BackupQuery{})
	if err != nil || len(all) != 2 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestFiltersAreSentAndChecked(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		want := "/v3/" + projectID + "/native/backups/detail?limit=1000&name=n&status=available&volume_id=v1"
		if r.RequestURI != want {
			t.Errorf("got %s, want %s", r.RequestURI, want)
		}
		cinder(w, 200, `{"backups": [{"id": "b1", "status": "available", "volume_id": "v1", "name": "n"},
			{"id": "b2", "status": "error", "volume_id": "v1", "name": "n"}, {"id": "b3", "status": "available", "volume_id": "v2", "name": "n"}]}`)
	})
	all, err := s.open(Options{}).Backups(context.Background(), BackupQuery{VolumeID: "v1", Status: "available", Name: "n"})
	if err != nil || len(all) != 1 || all[0].ID != "b1" {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestListingsThatWouldNotEndAreRefused(t *testing.T) {
	next := 0
	tests := map[string]http.HandlerFunc{
		"the same page again": func(w http.ResponseWriter, _ *http.Request) {
			cinder(w, 200, `{"volumes": [{"id": "v1"}, {"id": "v2"}]}`)
		},
		"a circle": func(w http.ResponseWriter, r *http.Request) {
			id := map[string]string{"": "a", "a": "b", "b": "c", "c": "a"}[r.URL.Query().Get("marker")]
			cinder(w, 200, `{"volumes": [{"id": "x"}, {"id": "`+id+`"}]}`)
		},
		"always something new": func(w http.ResponseWriter, _ *http.Request) {
			next += 2
			cinder(w, 200, fmt.Sprintf(`{"volumes": [{"id": "v%d"}, {"id": "v%d"}]}`, next, next+1))
		},
		"no id":    func(w http.ResponseWriter, _ *http.Request) { cinder(w, 200, `{"volumes": [{}]}`) },
		"no list":  func(w http.ResponseWriter, _ *http.Request) { cinder(w, 200, `{"x": 1}`) },
		"a number": func(w http.ResponseWriter, _ *http.Request) { cinder(w, 200, `{"volumes": 7}`) },
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, answer)
			c := s.open(Options{})
			c.maxPages = 20
			_, err := c.Volumes(context.Background(), VolumeQuery{Limit: 2})
			asError(t, err)
			if _, calls := s.counts(); calls > 20 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

func TestAMarkerDeletedMeanwhileDoesNotLookGone(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if m := r.URL.Query().Get("marker"); m != "" {
			cinder(w, 404, `{"itemNotFound": {"code": 404, "message": "Volume `+m+` could not be found."}}`)
			return
		}
		cinder(w, 200, `{"volumes": [{"id": "v1", "status": "available"}]}`)
	})
	_, err := s.open(Options{}).Volumes(context.Background(), VolumeQuery{Limit: 1})
	if e := asError(t, err); IsGone(err) || e.Status != 404 {
		t.Errorf("got %+v", e)
	}
}

func TestEachStopsWhenTheCallerDoes(t *testing.T) {
	s := newServer(t, shelf(t, 100))
	for v, err := range s.open(Options{}).EachVolume(context.Background(), VolumeQuery{Limit: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		if v.ID == "v12" {
			break
		}
	}
	if _, calls := s.counts(); calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}

const message = `{"id": "m1", "event_id": "VOLUME_VOLUME_BACKUP_015_026", "user_message": "restore backup:Backup driver failed to restore backup.", "message_level": "ERROR", "created_at": "2026-11-23T13:54:27.000000", "request_id": "req-1", "resource_type": "VOLUME_BACKUP", "resource_uuid": "b1"}`

func TestMessages(t *testing.T) {
	want := []Message{{
		ID: "m1", EventID: "VOLUME_VOLUME_BACKUP_015_026", Text: "restore backup:Backup driver failed to restore backup.",
		Level: "ERROR", RequestID: "req-1", ResourceID: "b1", Created: time.Date(2026, 11, 23, 13, 54, 27, 0, time.UTC),
	}}
	other := strings.Replace(message, "req-1", "req-2", 1)
	for _, highest := range []string{"3.5", "3.3", "3.0"} {
		t.Run("up to "+highest, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				asked := strings.TrimPrefix(r.Header.Get("OpenStack-API-Version"), "volume ")
				if asked > highest {
					cinder(w, 406, `{"computeFault": {"code": 406, "message": "Version `+asked+` is not supported by the API."}}`)
					return
				}
				if query := r.URL.RawQuery; (asked == "3.5") != (query == "request_id=req-1&resource_uuid=b1") {
					t.Errorf("%s with query %q", asked, query)
				}
				cinder(w, 200, `{"messages": [`+other+`,`+message+`]}`)
			})
			got, err := s.open(Options{}).Messages(context.Background(), MessageQuery{RequestID: "req-1", ResourceID: "b1"})
			if highest == "3.0" {
				if asError(t, err); !errors.Is(err, ErrNoMessages) {
					t.Errorf("got %v", err)
				}
				return
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Error(diff, err)
			}
		})
	}
}

func TestMessagesSinceAndWithoutARoute(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { cinder(w, 200, `{"messages": [`+message+`]}`) })
	since := time.Date(2026, 11, 23, 13, 54, 28, 0, time.UTC)
	if got, err := s.open(Options{}).Messages(context.Background(), MessageQuery{Since: since}); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	s = newServer(t, http.NotFound)
	if _, err := s.open(Options{}).Messages(context.Background(), MessageQuery{}); !errors.Is(err, ErrNoMessages) {
		t.Errorf("got %v", err)
	}
}

func TestCreateVolumeIsSentOnce(t *testing.T) {
	var body string
	status, answer := 202, `{"volume": {"id": "v9", "name": "n", "status": "creating", "size": 3}}`
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		cinder(w, status, answer)
	})
	c := s.open(Options{})
	v, err := c.CreateVolume(context.Background(), NewVolume{Name: "n", SizeGiB: 3, Type: "SSD", Zone: "z", Description: "d"})
	if err != nil || v.ID != "v9" || v.Status != "creating" || v.SizeGiB != 3 {
		t.Errorf("got %+v, %v", v, err)
	}
	if want := `{"volume":{"name":"n","size":3,"volume_type":"SSD","availability_zone":"z","description":"d"}}`; body != want {
		t.Errorf("sent %s, want %s", body, want)
	}
	answer = "{"
	_, err = c.CreateVolume(context.Background(), NewVolume{SizeGiB: 1})
	if e := asError(t, err); e.Executed != ExecutedMaybe {
		t.Errorf("a 202 that names no volume: %+v", e)
	}
	status = 504
	_, err = c.CreateVolume(context.Background(), NewVolume{SizeGiB: 1})
	if e := asError(t, err); e.Executed != ExecutedMaybe || e.Status != 504 {
		t.Errorf("504: %+v", e)
	}
	_, err = c.CreateVolume(context.Background(), NewVolume{Name: "n"})
	if e := asError(t, err); e.Executed != ExecutedNo {
		t.Errorf("no size: %+v", e)
	}
	if _, calls := s.counts(); calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
}

func TestDeleteAndPing(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "DELETE" {
			w.WriteHeader(202)
			return
		}
		cinder(w, 200, `{"backups": []}`)
	})
	c := s.open(Options{})
	if err := c.DeleteVolume(context.Background(), "v1"); err != nil {
		t.Error(err)
	}
	if err := c.Ping(context.Background()); err != nil {
		t.Error(err)
	}
	want := []string{"DELETE /v3/" + projectID + "/volumes/v1", "GET /v3/" + projectID + "/native/backups?limit=1"}
	if diff := cmp.Diff(want, s.calls); diff != "" {
		t.Error(diff)
	}
	s = newServer(t, func(w http.ResponseWriter, _ *http.Request) { cinder(w, 200, `{"page": "portal"}`) })
	if err := s.open(Options{}).Ping(context.Background()); err == nil {
		t.Error("a portal was taken for the cloud")
	}
}
