package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// checkKeys refuses what encoding/json would let pass: a key given twice, of
// which the last would win, and a key in upper case, which it would take for the
// lower-case one. The payload's first value is known to be JSON.
func checkKeys(payload []byte) error {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	return checkValue(d)
}

// checkValue walks one value. The depth is bounded by the decoder's own limit.
func checkValue(d *json.Decoder) error {
	open, err := d.Token()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for open == json.Delim('{') || open == json.Delim('[') {
		if !d.More() {
			_, err := d.Token() // the closing bracket
			return err
		}
		if open == json.Delim('{') {
			if err := checkKey(d, seen); err != nil {
				return err
			}
		}
		if err := checkValue(d); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(d *json.Decoder, seen map[string]bool) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	key, _ := t.(string)
	if seen[key] {
		return fmt.Errorf("the key %.70q is given twice", key)
	}
	seen[key] = true
	for _, c := range key {
		if c > '~' || 'A' <= c && c <= 'Z' {
			return fmt.Errorf("the key %.70q is not in lower case", key)
		}
	}
	return nil
}
