package installer

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf16"
)

// Everything about load options is in UEFI 2.10, sections 3.1.3 and 10.3.
const (
	entryName   = "muster"
	loaderPath  = `\EFI\BOOT\BOOTX64.EFI`
	activeEntry = 1
	orderName   = "BootOrder"
	currentName = "BootCurrent"
)

// Variables are the firmware's boot variables by name, without their attributes.
type Variables map[string][]byte

var entryForm = regexp.MustCompile(`^Boot[0-9A-F]{4}$`)

// PlanBoot returns what to write so that the firmware boots a partition: muster's entry, which a reinstalled machine has
// already, and the order with it. It comes first, or right behind the entry that was booted now when the network is to stay
// first. The rest of the order stays as it is.
func PlanBoot(have Variables, p Partition, networkFirst bool) (name string, write Variables) {
	number := entryNumber(have)
	name = fmt.Sprintf("Boot%04X", number)
	order := slices.DeleteFunc(words(have[orderName]), func(n uint16) bool { return n == number })
	at := 0
	if current := words(have[currentName]); networkFirst && len(current) == 1 {
		at = slices.Index(order, current[0]) + 1
	}
	return name, Variables{name: loadOption(p), orderName: unwords(slices.Insert(order, at, number))}
}

// entryNumber is that of muster's entry, or the first that is free.
func entryNumber(have Variables) uint16 {
	free := uint16(0)
	used := map[uint16]bool{}
	for name, value := range have {
		if !entryForm.MatchString(name) {
			continue
		}
		n, err := strconv.ParseUint(name[4:], 16, 16)
		if err != nil {
			continue
		}
		if description(value) == entryName {
			return uint16(n)
		}
		used[uint16(n)] = true
	}
	for used[free] {
		free++
	}
	return free
}

// description is the text of a load option: behind attributes and the length of the paths, up to a zero.
func description(option []byte) string {
	const before = 6
	if len(option) < before {
		return ""
	}
	text := words(option[before:])
	if end := slices.Index(text, 0); end >= 0 {
		text = text[:end]
	}
	return string(utf16.Decode(text))
}

// loadOption boots the loader that a partition has for firmwares that know nothing of it.
func loadOption(p Partition) []byte {
	le := binary.LittleEndian
	path := []byte{4, 1, 42, 0} // media: hard drive
	path = le.AppendUint32(path, uint32(p.Number))
	path = le.AppendUint64(path, p.Start)
	path = le.AppendUint64(path, p.Sectors)
	path = append(path, p.GUID[:]...)
	path = append(path, 2, 2) // a GUID partition table, and the partition's GUID
	file := text(loaderPath)
	path = append(path, 4, 4) // media: file
	path = le.AppendUint16(path, uint16(4+len(file)))
	path = append(path, file...)
	path = append(path, 0x7f, 0xff, 4, 0) // end
	option := le.AppendUint32(nil, activeEntry)
	option = le.AppendUint16(option, uint16(len(path)))
	return append(append(option, text(entryName)...), path...)
}

// text is a string as UEFI has them: UTF-16 and a zero.
func text(s string) []byte { return unwords(append(utf16.Encode([]rune(s)), 0)) }

func words(b []byte) []uint16 {
	var out []uint16
	for i := 0; i+1 < len(b); i += 2 {
		out = append(out, binary.LittleEndian.Uint16(b[i:]))
	}
	return out
}

func unwords(w []uint16) []byte {
	var out []byte
	for _, v := range w {
		out = binary.LittleEndian.AppendUint16(out, v)
	}
	return out
}
