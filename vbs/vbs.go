// Package vbs speaks to the cloud: the OTC / Huawei Volume Backup Service
// (native OpenStack V3 API) and plain OpenStack Cinder, behind one [Client].
//
// Start with [LoadCloud], which turns clouds.yaml or OS_* variables into a
// [Cloud], and [Open], which fetches a token and finds the endpoints:
//
//	cloud, err := vbs.LoadCloud("otc", vbs.Sources{Clouds: yaml})
//	client, err := vbs.Open(ctx, cloud, vbs.Options{})
//	accepted, err := client.Restore(ctx, vbs.Post{
//		BackupID: "1d1139d8-…", VolumeID: "2748f2f2-…",
//		NotAfter: time.Now().Add(time.Minute),
//	})
//
// A restore overwrites a volume and the cloud does not notice a repetition, so
// [Client.Restore] sends its POST at most once: no retries, no redirects, no
// byte after Post.NotAfter. What came back is either [Accepted] or an [Error],
// and Error.Executed tells whether the restore may be running all the same:
//
//	ExecutedNo     proven: nothing was sent, or the answer says it was refused
//	ExecutedMaybe  not proven: read the volume and the backup before repeating
//
// Two flavours differ only in the path of backups:
//
//	FlavourVBS     /v3/{project_id}/native/backups/…   (the default)
//	FlavourCinder  /v3/{project_id}/backups/…
//
// Reading is lenient (times with and without Z, numbers as strings, unknown
// fields) and bounded (sizes, pages, times). Every failed call returns an
// [Error] or wraps one. All methods of a Client are safe for concurrent use,
// no method leaves a goroutine behind, and secrets appear in no String, error
// or log line. The package reads no files and no environment: the caller hands
// both in through [Sources].
package vbs
