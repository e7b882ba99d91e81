package stream

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
)

// LogClientTo sends what go-redis itself has to say to logger, at debug level:
// a line for each connection that could not be made, mostly, which is what
// Writer and Reader tell once. Without it go-redis writes to standard error.
//
// go-redis has one logger for the whole process, so this is for a program's
// main, once, before Open.
func LogClientTo(logger hclog.Logger) { redis.SetLogger(clientLog{logger}) }

type clientLog struct{ logger hclog.Logger }

// Printf implements go-redis' logger.
func (l clientLog) Printf(_ context.Context, format string, args ...any) {
	if l.logger.IsDebug() {
		l.logger.Debug("redis client", "said", fmt.Sprintf(format, args...))
	}
}
