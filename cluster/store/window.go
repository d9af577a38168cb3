package store

import "google.golang.org/grpc"

// How much etcd's servers and clients send each other before it is acknowledged. gRPC would measure what the way between
// them takes, with a ping for whatever comes, and an answer to it: three times as many packets for a sign of life.
const (
	StreamWindow = 1 << 20 // bytes; four in a round trip of 250 ms are as fast as records are read
	ConnWindow   = 4 << 20
)

// StaticWindows are the windows as a client asks for them.
func StaticWindows() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithStaticStreamWindowSize(StreamWindow), grpc.WithStaticConnWindowSize(ConnWindow)}
}
