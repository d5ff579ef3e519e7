package weights

import "fmt"

// ConfigKey is where a model file's metadata keeps its configuration.
const ConfigKey = "resdet"

// Config returns the JSON configuration of a model file, as [Save] wrote it.
// A checkpoint that has none gives a [*NotModelError].
func (c *Checkpoint) Config() ([]byte, error) {
	config, ok := c.Metadata[ConfigKey]
	if !ok {
		return nil, &NotModelError{c.Name, c.Format}
	}
	return []byte(config), nil
}

// NotModelError says that a file holds weights without the configuration that
// makes them a model. It wraps [ErrFormat].
type NotModelError struct {
	File, Format string
}

func (e *NotModelError) Error() string {
	return fmt.Sprintf("weights: %s: a checkpoint (%s), not a model: it has no configuration", e.File, e.Format)
}

func (e *NotModelError) Unwrap() error { return ErrFormat }

// Hint says what can be done about it.
func (e *NotModelError) Hint() string {
	return fmt.Sprintf("make it a model: resdet weights import %s --arch NAME --out MODEL.safetensors", e.File)
}
