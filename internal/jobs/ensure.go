package jobs

import "context"

// Ensure makes the streams, the consumers and the pools' consumers that are
// missing, and returns the streams' marks afterwards.
func (c *Conn) Ensure(ctx context.Context, pools []string) ([]StreamMark, error) {
	return c.ensure(ctx, pools)
}
