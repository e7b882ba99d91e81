package discordsim

// replay is the bounded memory of one session: the newest dispatches, oldest forgotten first. Sequence numbers are
// contiguous, so the position of a frame follows from its number.
type replay struct {
	maxEvents, maxBytes int

	frames [][]byte // whole gateway messages, never changed once stored
	last   int64    // sequence number of the newest frame; 0 before the first
	bytes  int

	// slab is where frames are cut from: one allocation serves many small frames, and is freed when all of them are
	// forgotten, which happens in order.
	slab []byte
}

const slabSize = 64 << 10

// store appends the frame that build writes to the slice it is given.
func (r *replay) store(sizeHint int, build func(dst []byte) []byte) {
	if cap(r.slab)-len(r.slab) < sizeHint {
		r.slab = make([]byte, 0, max(slabSize, sizeHint))
	}
	start := len(r.slab)
	r.slab = build(r.slab)
	frame := r.slab[start:len(r.slab):len(r.slab)]

	r.frames = append(r.frames, frame)
	r.bytes += len(frame)
	r.last++
	for len(r.frames) > 1 && (len(r.frames) > r.maxEvents || r.bytes > r.maxBytes) {
		r.bytes -= len(r.frames[0])
		r.frames[0] = nil // the array lives on; let go of the slab
		r.frames = r.frames[1:]
	}
}

// oldest is the sequence number of the oldest frame still here.
func (r *replay) oldest() int64 { return r.last - int64(len(r.frames)) + 1 }

// reaches reports whether everything after seq is still here.
func (r *replay) reaches(seq int64) bool { return seq+1 >= r.oldest() }

// after appends to dst the frames that follow seq, in order, until they hold about maxBytes, and returns the last
// sequence number it took. The caller has checked reaches.
func (r *replay) after(dst [][]byte, seq int64, maxBytes int) ([][]byte, int64) {
	for _, frame := range r.frames[seq+1-r.oldest():] {
		if maxBytes <= 0 {
			break
		}
		dst = append(dst, frame)
		maxBytes -= len(frame)
		seq++
	}
	return dst, seq
}

// forget frees everything.
func (r *replay) forget() { r.frames, r.slab, r.bytes = nil, nil, 0 }
