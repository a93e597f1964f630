package collateral

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// floorFolder is where the documents are that say which evaluation number was
// served last: a number that nobody signed would be anybody's.
const floorFolder = "floor"

// trouble counts and reports what is wrong with the directory.
func (c *Cache) trouble(err error) {
	if err != nil {
		c.count(&c.stats.DirErrors)
		c.cfg.Report(fmt.Errorf("collateral: cache directory: %w", err))
	}
}

// loaded is a file whose content is genuine.
type loaded struct {
	file, name string
	item       item
}

// loadAll reads all that is in the directory, as far as memory reaches.
func (c *Cache) loadAll(now time.Time) {
	total := 0
	c.trouble(c.dir.clean(floorFolder, time.Now()))
	for _, f := range c.loadFolder(floorFolder, "", &total) {
		if f.item.kind.document() {
			c.floor = max(c.floor, f.item.number.Uint64())
		}
	}
	c.storedFloor = c.floor
	c.loading = true
	for i := range 256 {
		folder := fmt.Sprintf("%02x", i)
		c.trouble(c.dir.clean(folder, time.Now()))
		c.putLoaded(c.loadFolder(folder, "", &total), now)
	}
	c.loading = false
}

// loadName reads what others wrote under name.
func (c *Cache) loadName(name string, now time.Time) {
	folder, prefix := place(name)
	total := 0
	c.putLoaded(c.loadFolder(folder, prefix, &total), now)
}

// putLoaded puts what was in files in memory. Lists of one name stay together, as
// those of one answer do.
func (c *Cache) putLoaded(files []loaded, now time.Time) {
	byName := map[string][]item{}
	for _, f := range files {
		byName[f.name] = append(byName[f.name], f.item)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		known := c.has(name)
		c.put(name, byName[name], now)
		if !known {
			c.lookSoon(name)
		}
	}
}

func (c *Cache) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[name] != nil
}

// lookSoon says that nobody knows how old the status under name is.
func (c *Cache) lookSoon(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[name]; e != nil && e.items[0].kind.status() {
		e.due = time.Time{}
	}
}

// loadFolder returns what is genuine in the files of folder that start with prefix.
func (c *Cache) loadFolder(folder, prefix string, total *int) (found []loaded) {
	limit := maxOfName
	if prefix == "" {
		limit = maxInFolder
	}
	files, err := c.dir.list(folder, prefix, limit)
	c.trouble(err)
	for _, file := range files {
		if strings.HasPrefix(file, tempPrefix) || *total > maxInAll {
			continue
		}
		f, size, err := c.loadFile(folder, file)
		*total += size
		if err != nil {
			c.trouble(fmt.Errorf("%s/%s is ignored: %w", folder, file, err))
			continue
		}
		found = append(found, f)
	}
	return found
}

// loadFile returns what a file has, and its size.
func (c *Cache) loadFile(folder, file string) (loaded, int, error) {
	b, err := c.dir.read(path.Join(folder, file))
	if err != nil {
		return loaded{}, 0, err
	}
	r, err := decode(b)
	if err != nil {
		return loaded{}, len(b), err
	}
	in, prefix := place(r.Name)
	if in != folder && folder != floorFolder || fileName(prefix, b) != file {
		return loaded{}, len(b), errors.New("not where its content belongs")
	}
	x, err := c.trust.verify(r.Name, r.collateral())
	return loaded{file, r.Name, x.clone()}, len(b), err
}

// store writes what is held under name and removes what that replaces, in this
// order: there is never less than one. Others may have written newer meanwhile,
// which is then held. If it can't, the Cache works from memory and says so.
func (c *Cache) store(name string, now time.Time) {
	folder, prefix := place(name)
	total := 0
	there := c.loadFolder(folder, prefix, &total)
	var found []item
	for _, f := range there {
		if f.name == name {
			found = append(found, f.item)
		}
	}
	after, _ := c.put(name, found, now)
	for _, x := range after {
		if slices.ContainsFunc(found, x.same) {
			continue
		}
		if x.kind == VEK && c.isFull(folder) {
			c.trouble(fmt.Errorf("%s is full: a VEK is kept in memory only", folder))
			return
		}
		if _, err := c.storeFile(folder, name, x.Collateral); err != nil {
			c.trouble(err)
			return
		}
	}
	for _, f := range there {
		if f.name == name && !slices.ContainsFunc(after, f.item.same) {
			c.trouble(c.dir.remove(path.Join(folder, f.file)))
		}
	}
}

// isFull reports whether folder has no place for VEKs: strangers choose which are
// asked for, and AMD issues one for each TCB that a chip could have had.
func (c *Cache) isFull(folder string) bool {
	files, err := c.dir.list(folder, "", maxInFolder)
	return err != nil || len(files) >= maxVEKFiles
}

// storeFile writes x under name into folder and returns the file.
func (c *Cache) storeFile(folder, name string, x evidence.Collateral) (string, error) {
	b, err := encode(name, x)
	if err != nil {
		return "", err
	}
	_, prefix := place(name)
	file := fileName(prefix, b)
	return file, c.dir.write(folder, file, b)
}

// storeFloor keeps a document of the evaluation number that is served, if that was
// raised.
func (c *Cache) storeFloor() {
	if c.dir == nil {
		return
	}
	name, x, ok := c.floorWitness()
	if !ok {
		return
	}
	file, err := c.storeFile(floorFolder, name, x.Collateral)
	if err != nil {
		c.trouble(err)
		return
	}
	c.mu.Lock()
	c.storedFloor = max(c.storedFloor, x.number.Uint64())
	c.mu.Unlock()
	c.dropFloors(file, x.number.Uint64())
}

// floorWitness returns a document of the number that is served, if that is not
// stored yet.
func (c *Cache) floorWitness() (string, item, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.floor <= c.storedFloor {
		return "", item{}, false
	}
	for e := range c.documents() {
		for _, x := range e.items {
			if x.number.Uint64() == c.floor {
				return e.name, x, true
			}
		}
	}
	return "", item{}, false
}

// dropFloors removes what file replaces: documents of lower numbers.
func (c *Cache) dropFloors(file string, number uint64) {
	files, err := c.dir.list(floorFolder, "", maxInFolder)
	c.trouble(err)
	for _, other := range files {
		f, _, err := c.loadFile(floorFolder, other)
		if other != file && err == nil && f.item.number.Uint64() < number {
			c.trouble(c.dir.remove(path.Join(floorFolder, other)))
		}
	}
}
