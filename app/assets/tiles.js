// How Bokeh draws our map tiles. Layers whose tags hold [left, bottom, right, top] ask only for
// tiles that touch these bounds, and no layer asks for tiles ahead of need (Bokeh would fetch 40
// at each step). A metre is as long across as up, whatever the form of the frame. A layer may be
// cut at a line, and a translucent one is never drawn twice. A tile that a busy server refuses is
// asked for again when it says so; until then the last complete picture stays.
(() => {
  const TRIES = 5
  const BUSY = [429, 503]
  const LONGEST = 30  // seconds between two tries
  const layer = Bokeh.Models.get("TileRenderer").prototype.default_view.prototype
  const wanted = layer._fetch_tiles
  const rect = layer._set_rect
  const render = layer._render_tiles
  layer._prefetch_tiles = function () {}
  layer._fetch_tiles = function (tiles) {
    const [left, bottom, right, top] = this.model.tags.length == 4 ? this.model.tags : [-Infinity, -Infinity, Infinity, Infinity]
    this._tiles ??= []
    wanted.call(this, tiles.filter(([,,, [west, south, east, north]]) =>
      west < right && east > left && south < top && north > bottom))
    if (this.has_finished()) { this.notify_finished() }
  }

  const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * Math.min(Math.max(seconds, 0.2), LONGEST)))
  const picture = async (answer) => {
    const image = new Image()
    image.src = URL.createObjectURL(await answer.blob())
    await image.decode().finally(() => URL.revokeObjectURL(image.src))
    return image
  }
  const load = async (view, tile, url) => {
    const { tile_source: source } = view.model
    // nobody waits for a tile of another picture
    for (let attempt = 1; attempt <= TRIES && source.tiles.get(tile.cache_key) == tile; attempt++) {
      let wait = 2  // for a server that does not answer
      try {
        const answer = await fetch(url)
        if (answer.status == 200) {
          Object.assign(tile, { img: await picture(answer), loaded: true })
          break
        }
        if (!BUSY.includes(answer.status)) { break }
        wait = Number(answer.headers.get("Retry-After")) || 0
      } catch (error) {
        if (!(error instanceof TypeError)) { break }  // no picture
      }
      if (attempt < TRIES) { await pause(wait) }
    }
    tile.finished = !tile.loaded
    view.request_paint()
  }
  const create = layer._create_tile
  layer._create_tile = function (x, y, z, bounds, ...rest) {
    const { tile_source: source } = this.model
    const place = source.normalize_xyz(x, y, z)
    const url = source.get_image_url(...place)
    const key = source.tile_xyz_to_key(x, y, z)
    if (!url.startsWith("/tiles/")) { return create.call(this, x, y, z, bounds, ...rest) }
    if (source.tiles.has(key)) { return }
    const tile = {
      img: undefined, tile_coords: [x, y, z], normalized_coords: place, quadkey: source.tile_xyz_to_quadkey(x, y, z),
      cache_key: key, bounds, loaded: false, finished: false, x_coord: bounds[0], y_coord: bounds[3],
    }
    source.tiles.set(key, tile)
    this._tiles.push(tile)
    load(this, tile, url)
  }

  const even = (view) => {
    const { x_range: x, y_range: y } = view
    const { width, height } = view.plot_view.frame.bbox
    const across = (x.end - x.start) / width, up = (y.end - y.start) / height
    if (!(width > 0 && height > 0 && across > 0 && up > 0) || Math.abs(across / up - 1) < 1e-4) { return }
    const [range, half] = across < up ? [x, up * width / 2] : [y, across * height / 2]
    const middle = (range.start + range.end) / 2
    range.setv({ start: middle - half, end: middle + half })
  }
  layer._map_data = function () {
    this.initial_extent = this.get_extent()
    even(this)
  }
  layer._enforce_aspect_ratio = function () {
    const { width, height } = this.plot_view.frame.bbox
    if (this._last_width !== width || this._last_height !== height) {
      this._last_width = width
      this._last_height = height
      even(this)
    } else {
      // both ranges may be about to change, one after the other
      clearTimeout(this.plot_model._even)
      this.plot_model._even = setTimeout(() => even(this), 60)
    }
  }

  // [from, to] as shares of the width of the frame
  layer._set_rect = function (ctx) {
    rect.call(this, ctx)
    if (this.model._cut != null) {
      const { left, top, width, height } = this.plot_view.frame.bbox
      const [from, to] = this.model._cut
      ctx.beginPath()
      ctx.rect(left + from * width, top, (to - from) * width, height)
      ctx.clip()
    }
  }

  const complete = ({ tile_source }) => {
    const tiles = [...tile_source.tiles.values()]
    return tiles.length > 0 && tiles.every((tile) => tile.loaded || tile.finished)
  }
  layer._render_tiles = function (ctx, keys) {
    const { alpha, name, _front } = this.model
    if (alpha < 1 && (name == "front" ? !complete(this.model) : _front != null && complete(_front))) { return }
    render.call(this, ctx, keys)
  }
})()
