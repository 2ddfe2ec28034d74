package simulator_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/vbsrestore/vbsrestore/simulator"
)

// A gateway gives up on a restore that the cloud carries out all the same.
func Example() {
	cloud, err := simulator.New(simulator.Config{Volumes: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cloud.Close()
	cloud.Script("POST restore", simulator.Fault{Kind: simulator.AnswerAfter, Status: 504, Form: simulator.HTML})

	client := &http.Client{Transport: cloud}
	token, err := client.Post("http://cloud.test/v3/auth/tokens", "application/json", strings.NewReader(
		`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"demo","secret":"demo"}}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer token.Body.Close()

	pair := cloud.Pairs()[0]
	r, err := http.NewRequest("POST", "http://cloud.test/v3/5eed0000c10d4000a000000000000001/native/backups/"+pair.BackupID+"/restore",
		strings.NewReader(`{"restore":{"volume_id":"`+pair.VolumeID+`"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Auth-Token", token.Header.Get("X-Subject-Token"))
	answer, err := client.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()

	fmt.Println(answer.Status)
	fmt.Println(len(cloud.Executions()), "execution,", cloud.Volumes()[0].Name, cloud.Volumes()[0].Status)
	// Output:
	// 504 Gateway Timeout
	// 1 execution, db-0001 restoring-backup
}
