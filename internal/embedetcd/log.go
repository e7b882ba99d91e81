package embedetcd

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap/zapcore"
)

// core passes what etcd logs on to our logger. Its warnings are for who looks for them, since even a healthy start has some; what it takes
// for information is left out.
type core struct {
	log  hclog.Logger
	life context.Context // after its end etcd takes for an error that its listeners are closed
}

// newCore makes a core for a logger, or for none.
func newCore(log hclog.Logger, life context.Context) zapcore.Core {
	if log == nil {
		return zapcore.NewNopCore()
	}
	return core{log, life}
}

// Enabled is part of zapcore.Core.
func (core) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// With is part of zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(pairs(fields)...), c.life}
}

// Check is part of zapcore.Core.
func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return checked
	}
	return checked.AddCore(entry, c)
}

// Write is part of zapcore.Core. After a fatal entry zap ends the process.
func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := hclog.Debug
	if entry.Level >= zapcore.ErrorLevel && c.life.Err() == nil {
		level = hclog.Error
	}
	c.log.Log(level, entry.Message, pairs(fields)...)
	return nil
}

// Sync is part of zapcore.Core.
func (core) Sync() error { return nil }

// pairs are zap's fields as hclog takes them.
func pairs(fields []zapcore.Field) []any {
	out := make([]any, 0, 2*len(fields))
	for _, field := range fields {
		values := zapcore.NewMapObjectEncoder()
		field.AddTo(values)
		for key, value := range values.Fields {
			out = append(out, key, value)
		}
	}
	return out
}
