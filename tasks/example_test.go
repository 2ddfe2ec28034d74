package tasks_test

import (
	"fmt"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

func ExampleRestore_Validate() {
	r := tasks.Restore{Cloud: "prod", BackupID: "2F1C8F9E-6A0A-4A52-9C43-0D0E5A1B7C11", VolumeID: "/dev/vdb"}
	r.Normalize(time.Now())
	fmt.Println(r.BackupID, r.Class)
	fmt.Println(r.Validate())
	// Output:
	// 2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11 direct
	// volume_id: "/dev/vdb" is not a UUID
}

func ExampleDecode() {
	_, err := tasks.Decode([]byte(`{"v":1,"restore":{"volumeid":"9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22"}}`))
	fmt.Println(err)
	// Output:
	// decode message: unknown_key: json: unknown field "volumeid"
}
