// Package fetch downloads published files into a folder and knows where they
// are published.
//
//	Published (a table) ─ File ─▶ Get ─ there already? ──────────────▶ verify ─▶ path
//	                                └─ download ─ cut? resume ─▶ .part ─┘
//	                                                     archive ─ its member ─▶ path
//
// A download goes over HTTPS only, follows a bounded number of redirects, has a
// bound on its size, and goes on where an earlier one was cut off, if the server
// says that the file is still the same. What arrives is verified by the
// checksums that its publisher gives. Where there are none the first download's
// SHA-256 is remembered, and a later one that differs is an error.
//
// No address and no checksum is guessed: every entry of the table says where
// each was read.
package fetch
