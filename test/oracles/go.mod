module mediaferry/test/oracles

go 1.26.0

require (
	github.com/tencentyun/cos-go-sdk-v5 v0.7.75
	github.com/tencentyun/vod-go-sdk v1.0.5
	go.uber.org/goleak v1.3.0
	mediaferry v0.0.0
)

require (
	github.com/clbanning/mxj v1.8.4 // indirect
	github.com/google/go-querystring v1.0.0 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/minio/crc64nvme v1.1.1 // indirect
	github.com/mitchellh/mapstructure v1.4.3 // indirect
	github.com/mozillazg/go-httpheader v0.2.1 // indirect
	github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common v1.0.563 // indirect
	github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/vod v1.0.493 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace mediaferry => ../..
