package video

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// soundTimeout bounds ffmpeg's copying of streams.
const soundTimeout = 10 * time.Minute

// addSound copies the audio of source, if it has any, into the video file by
// ffmpeg's command. Without ffmpeg, or when that fails, the video stays as it
// is and the log is told.
func addSound(name, source string, start, length time.Duration, log *slog.Logger) {
	program, err := exec.LookPath("ffmpeg")
	if err != nil {
		log.Warn("the sound, if the source has any, was not copied: ffmpeg is not installed", "file", name)
		return
	}
	ext := filepath.Ext(name)
	with := strings.TrimSuffix(name, ext) + ".sound" + ext
	defer os.Remove(with)
	// Copied as it is, or as AAC where the container does not take it.
	for _, codec := range []string{"copy", "aac"} {
		if err = remux(program, name, source, with, codec, start, length); err == nil {
			if err = os.Rename(with, name); err == nil {
				return
			}
		}
	}
	log.Warn("the sound was not copied", "file", name, "error", err)
}

func remux(program, video, source, out, codec string, start, length time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), soundTimeout)
	defer cancel()
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
	allowed := "file,crypto,data"
	if strings.Contains(source, "://") {
		allowed = "http,https,httpproxy,tcp,tls,crypto,data"
	} else if abs, err := filepath.Abs(source); err == nil {
		source = abs // so that no name looks like an option or a protocol
	}
	if abs, err := filepath.Abs(video); err == nil {
		video = abs
	}
	if abs, err := filepath.Abs(out); err == nil {
		out = abs
	}
	args := []string{
		"-v", "error", "-nostdin", "-y",
		"-protocol_whitelist", "file,crypto,data", "-i", video,
		"-protocol_whitelist", allowed, "-ss", seconds(start), "-t", seconds(length), "-i", source,
		"-map", "0:v:0", "-map", "1:a?", "-c:v", "copy", "-c:a", codec,
	}
	if strings.EqualFold(filepath.Ext(out), ".mp4") {
		args = append(args, "-movflags", "+faststart")
	}
	cmd := exec.CommandContext(ctx, program, append(args, out)...)
	var printed tail
	cmd.Stderr = &printed
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ffmpeg: %w: %s", err, &printed)
	}
	return nil
}
