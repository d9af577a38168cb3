package ec2

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/musterhq/muster/providers"
)

// Console writes what a host has said on its serial console, of which EC2 keeps the last 64 KiB. Followed, it is read
// again and again; what was said and pushed out between two looks is lost.
func (p *Provider) Console(ctx context.Context, instance providers.Instance, follow bool, w io.Writer) error {
	var written []byte
	for {
		text, err := p.consoleOutput(ctx, instance.ID)
		if hasCode(err, codeInstanceGone) && follow && written != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(text[overlap(written, text):]); err != nil || !follow {
			return err
		}
		if len(text) > 0 || written == nil {
			written = append([]byte{}, text...)
		}
		if err := providers.Pause(ctx, p.timing.console); err != nil {
			return err
		}
		seen, err := p.look(ctx, p.owner(instance.Cluster), p.timing.look)
		if err != nil {
			return err
		}
		if now, shown := seen.byID(instance.ID); !shown || ended(now) {
			return nil
		}
	}
}

// consoleOutput reads the console: as it is now where the hypervisor can, else as it was kept last.
func (p *Provider) consoleOutput(ctx context.Context, id string) ([]byte, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := call(ctx, p, c.ec2.GetConsoleOutput, &ec2.GetConsoleOutputInput{InstanceId: aws.String(id), Latest: aws.Bool(true)})
	if hasCode(err, codeUnsupported) {
		out, err = call(ctx, p, c.ec2.GetConsoleOutput, &ec2.GetConsoleOutputInput{InstanceId: aws.String(id)})
	}
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return nil, fmt.Errorf("console of %s is not in base64: %w", id, providers.ErrUnavailable)
	}
	return text, nil
}

// overlap is how many bytes at the beginning of text are the end of what was written.
func overlap(written, text []byte) int {
	for n := min(len(written), len(text)); n > 0; n-- {
		if bytes.HasSuffix(written, text[:n]) {
			return n
		}
	}
	return 0
}
