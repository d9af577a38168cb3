package ec2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/musterhq/muster/providers"
)

// clients speak to Amazon's services. Each tries once: repeating is the caller's.
type clients struct {
	ec2          calls
	getParameter func(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	region       string
}

// connect makes the clients with the first call that needs them, and makes sure that there are credentials.
func (p *Provider) connect(ctx context.Context) (*clients, error) {
	return p.clients.get(ctx, "", func(ctx context.Context) (*clients, error) {
		settings, err := p.config.load(ctx, p.http, p.log)
		if err != nil {
			return nil, err
		}
		return &clients{
			region: settings.Region,
			ec2: callsOf(ec2.NewFromConfig(settings, func(o *ec2.Options) {
				if p.config.Endpoint != "" {
					o.BaseEndpoint = aws.String(p.config.Endpoint)
				}
			})),
			getParameter: ssm.NewFromConfig(settings, func(o *ssm.Options) {
				if p.config.Endpoints.SSM != "" {
					o.BaseEndpoint = aws.String(p.config.Endpoints.SSM)
				}
			}).GetParameter,
		}, nil
	})
}

// load finds region and credentials.
func (c Config) load(ctx context.Context, http config.HTTPClient, log *slog.Logger) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), config.WithAppID("muster"),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			log.Debug("AWS SDK: " + fmt.Sprintf(format, args...))
		})),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	if c.AccessKeyID != "" {
		static := credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey.Reveal(), c.SessionToken.Reveal())
		options = append(options, config.WithCredentialsProvider(static))
	}
	if http != nil {
		options = append(options, config.WithHTTPClient(http))
	}
	settings, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return settings, fmt.Errorf("cannot read the AWS configuration: %w: %w", err, providers.ErrInvalid)
	}
	if settings.Region == "" {
		return settings, fmt.Errorf("no region is given, set `region` or AWS_REGION: %w", providers.ErrInvalid)
	}
	if c.AssumeRole.ARN != "" {
		settings.Credentials = aws.NewCredentialsCache(c.role(settings))
	}
	return settings, retrieve(ctx, settings)
}

// role takes a role with the credentials found.
func (c Config) role(settings aws.Config) aws.CredentialsProvider {
	client := sts.NewFromConfig(settings, func(o *sts.Options) {
		if c.Endpoints.STS != "" {
			o.BaseEndpoint = aws.String(c.Endpoints.STS)
		}
	})
	return stscreds.NewAssumeRoleProvider(client, c.AssumeRole.ARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName, o.Duration = c.AssumeRole.SessionName, c.AssumeRole.Duration
		if c.AssumeRole.ExternalID != "" {
			o.ExternalID = aws.String(c.AssumeRole.ExternalID)
		}
	})
}

// retrieve finds credentials before the first request is signed with them, which would fail in more words.
func retrieve(ctx context.Context, settings aws.Config) error {
	if settings.Credentials == nil {
		return fmt.Errorf("there are no AWS credentials: %w", providers.ErrAuth)
	}
	_, err := settings.Credentials.Retrieve(ctx)
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) != nil:
		return fmt.Errorf("finding AWS credentials: %w", context.Cause(ctx))
	case code(err) != "":
		return fmt.Errorf("cannot get AWS credentials: %w", classified(ctx, "credentials", err))
	default:
		return fmt.Errorf("cannot get AWS credentials, set `profile`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w: %w",
			err, providers.ErrAuth)
	}
}

// answerTime is how long one call may take. RunInstances has been seen to take tens of seconds.
const answerTime = 90 * time.Second

var errNoAnswer = errors.New("no answer in time")

// call makes one call, when the pace allows it, and classes its error. The action's name is that of the input's type.
func call[I, O, F any](
	ctx context.Context, p *Provider, method func(context.Context, *I, ...F) (*O, error), in *I,
) (*O, error) {
	action := strings.TrimSuffix(reflect.TypeFor[I]().Name(), "Input")
	if err := p.pace.wait(ctx, action); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, answerTime, errNoAnswer)
	defer cancel()
	out, err := method(limited, in)
	if err == nil {
		return out, nil
	}
	err = classified(ctx, action, err)
	if errors.Is(err, providers.ErrThrottled) {
		p.pace.slow(action)
	}
	return nil, err
}
