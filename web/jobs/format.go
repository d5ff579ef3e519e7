package jobs

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
)

// format is what a file is by its content; names of uploads mean nothing.
type format string

const (
	formatZip   format = "zip"
	formatTar   format = "tar"
	formatGzip  format = "tar.gz" // or some other thing that was compressed
	formatVideo format = "video"
)

func (f format) kind() Kind {
	if f == formatVideo {
		return Video
	}
	return Images
}

// headBytes is how much of a file tells its format: a tar's first header, or
// two packets of an MPEG transport stream.
const headBytes = 512

// recognise tells a file's format by its first bytes.
//
// Only containers that hold their data themselves pass for videos. The decoder
// behind the helper would also take playlists, which are text that names other
// files and addresses of the server.
func recognise(head []byte) (format, error) {
	is := func(at int, magic string) bool { return len(head) >= at && bytes.HasPrefix(head[at:], []byte(magic)) }
	switch {
	case len(head) == 0:
		return "", faultf(BadInput, "the upload is empty")
	case is(0, "PK\x03\x04"), is(0, "PK\x05\x06"):
		return formatZip, nil
	case is(0, "\x1f\x8b"):
		return formatGzip, nil
	case is(0, "YUV4MPEG2 "), is(0, "\xff\xd8\xff"), is(0, "--"), is(0, "\r\n--"): // Y4M, MJPEG
		return formatVideo, nil
	case is(4, "ftyp"), is(4, "moov"), is(4, "mdat"), is(4, "wide"), is(4, "free"), is(4, "skip"): // MP4, QuickTime
		return formatVideo, nil
	case is(0, "RIFF") && is(8, "AVI "), is(0, "\x1a\x45\xdf\xa3"), is(0, "FLV\x01"): // AVI, Matroska and WebM, Flash
		return formatVideo, nil
	case is(0, "\x00\x00\x01\xba"), is(0, "\x00\x00\x01\xb3"), is(0, "G") && is(188, "G") && is(376, "G"): // MPEG
		return formatVideo, nil
	case is(0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11"), is(0, "OggS"): // ASF and WMV, Ogg
		return formatVideo, nil
	case is(0, "\x89PNG"):
		return "", faultf(Unsupported, "it is a single picture: put pictures into a zip or tar archive")
	}
	if _, err := tar.NewReader(bytes.NewReader(head)).Next(); err == nil {
		return formatTar, nil
	}
	return "", faultf(Unsupported, "it is neither an archive of pictures (zip, tar, tar.gz) nor a video (MP4, AVI, Matroska, MPEG, MJPEG, Y4M, …)")
}

// recogniseFile tells what a file is.
func recogniseFile(name string) (format, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", faultf(Internal, "jobs: %w", err)
	}
	defer f.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", faultf(Internal, "jobs: %w", err)
	}
	return recognise(head[:n])
}
