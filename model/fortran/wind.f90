! The largest 1-minute wind that a storm brings to each point of a grid: the same formulas as model/wind_field.py and
! model/wind_profiles.py, where they are cited, in single precision where the points are and double where the track is.
!
!   wind TRACK FIELD [REPEAT]     reads the text file TRACK, writes the binary file FIELD, REPEAT times over
!
! TRACK: lines of  model | south west step rows columns | nodes | then a line a node: hours lat lon vmax pcen penv rmax
! FIELD: two int32, rows and columns, then float32 m/s, row by row from the south, each from the west.
! Exit codes: 0, or 2 usage, 3 a file cannot be read or written, 4 the track's content.
module profiles
  implicit none
  integer, parameter :: dp = kind(1d0), sp = kind(1.0)
  real(dp), parameter :: pi = 3.14159265358979323846_dp, euler = exp(1.0_dp), rho = 1.15_dp, degree_km = 111.12_dp
  real(dp), parameter :: reach_max_km = 300, floor_ms = 17.5_dp, fastest_ms = 30 * 1852.0_dp / 3600, nearest_km = 1e-3_dp
  real(dp), parameter :: to_surface = 0.9_dp, second_km = 25
  integer, parameter :: h1980 = 1, h08 = 2, h10 = 3, er11 = 4, w06 = 5

  ! One time step as the loops over points need it: p holds what only some profiles use.
  type node
    real(sp) :: rmax, b, amplitude, half_f, vmax, east, north, motion
    real(sp) :: p(5)
  end type node
contains
  pure real(dp) function blend(xi)
    real(dp), intent(in) :: xi
    blend = xi**5 * (126 + xi * (-420 + xi * (540 + xi * (-315 + xi * 70))))
  end function blend

  ! 1-minute winds at distances whose squares are d2, angular part.
  subroutine angular(model, n, d2, k, v)
    integer, intent(in) :: model, n
    real(sp), intent(in) :: d2(n)
    type(node), intent(in) :: k
    real(sp), intent(out) :: v(n)
    real(sp) :: s, h, r, lnr2, hb, x, q, w, xi, outside, inner, outer
    integer :: i
    lnr2 = 2 * log(k%rmax)
    hb = k%b / 2
    select case (model)
    case (h1980, h08)
      !$omp simd private(s, h)
      do i = 1, n
        s = exp(hb * (lnr2 - log(d2(i))))
        h = sqrt(d2(i)) * k%half_f
        v(i) = k%vmax * (sqrt(k%amplitude * s * exp(-s) + h * h) - h)
      end do
    case (h10)
      !$omp simd private(s, x)
      do i = 1, n
        s = hb * (lnr2 - log(d2(i)))
        x = max(0.5_sp + max((sqrt(d2(i)) - k%rmax) * k%p(2), 0.0_sp) * (k%p(1) - 0.5_sp), 0.4_sp)
        v(i) = k%vmax * exp(x * (s + 1 - exp(s)))
      end do
    case (er11)
      !$omp simd private(r, q)
      do i = 1, n
        r = sqrt(d2(i))
        q = d2(i) / (k%rmax * k%rmax)
        v(i) = max(k%amplitude * 2 * q / (1 + q) / r - k%half_f * r, 0.0_sp)
      end do
    case (w06)
      !$omp simd private(r, outside, inner, outer, w, xi)
      do i = 1, n
        r = sqrt(d2(i))
        inner = exp(k%p(1) * 0.5_sp * (log(d2(i)) - lnr2))
        outside = max(r, k%p(4)) - k%rmax
        outer = (1 - k%p(2)) * exp(-outside / k%p(3)) + k%p(2) * exp(-outside / real(second_km, sp))
        xi = min(max((r - k%p(4)) / k%p(5), 0.0_sp), 1.0_sp)
        w = xi**5 * (126 + xi * (-420 + xi * (540 + xi * (-315 + xi * 70))))
        v(i) = k%vmax * (inner * (1 - w) + outer * w)
      end do
    end select
  end subroutine angular

  ! The parameters of one time step, given the step before.
  subroutine prepare(model, now, before, first, k, east, north)
    integer, intent(in) :: model
    real(dp), intent(in) :: now(7), before(7)
    logical, intent(in) :: first
    type(node), intent(out) :: k
    real(dp), intent(out) :: east, north
    real(dp) :: dt, motion, drop, f, own, b, rate, vm, s, x, flight, n, a, x1, width, fall, lo, hi, mid, rmax, lat, cap
    integer :: i
    east = 0; north = 0; rate = 0
    lat = abs(now(2))
    if (.not. first) then
      dt = (now(1) - before(1)) * 3600
      north = (now(2) - before(2)) * degree_km * 1000 / dt
      east = (now(3) - before(3)) * cos(before(2) * pi / 180) * degree_km * 1000 / dt
      cap = min(1.0_dp, fastest_ms / max(hypot(east, north), 1e-9_dp))
      east = east * cap; north = north * cap
      rate = (now(5) - before(5)) / (dt / 3600)
    end if
    motion = hypot(east, north)
    drop = max(now(6) - now(5), 0.0_dp)
    f = 2 * 7.29e-5_dp * sin(lat * pi / 180)
    own = max(now(4) - motion, 0.0_dp)
    rmax = now(7)
    k%vmax = 1; k%p = 0; k%b = 1; k%amplitude = 0
    k%half_f = real(f * 500, sp)
    select case (model)
    case (h1980)
      b = 1
      if (drop > 0) b = (own / to_surface)**2 * euler * rho / (drop * 100)
      b = min(max(b, 1.0_dp), 2.5_dp)
      k%vmax = real(to_surface, sp)
    case (h08, h10)
      b = -4.4e-5_dp * drop**2 + 0.01_dp * drop + 0.03_dp * rate - 0.014_dp * lat + 1 &
        + 0.15_dp * motion**(0.6_dp * (1 - drop / 215))
      b = min(max(b, 0.81_dp), 2.025_dp)
    case default
      b = 1
    end select
    k%b = real(b, sp)
    k%amplitude = real(b * drop * 100 / rho, sp)
    select case (model)
    case (h10)
      vm = sqrt(b * drop * 100 / (rho * euler))
      s = (rmax / reach_max_km)**b
      x = 0
      if (vm > 0) x = log(17 / vm) / (log(s) + 1 - s)
      k%vmax = real(vm, sp)
      k%p(1) = real(x, sp)
      k%p(2) = real(1 / (reach_max_km - rmax), sp)
    case (er11)
      k%amplitude = real(rmax * own + 500 * f * rmax**2, sp)
    case (w06)
      flight = own / to_surface
      rmax = 46.4_dp * exp(-0.0155_dp * flight + 0.0169_dp * lat)
      n = 0.4067_dp + 0.0144_dp * flight - 0.0038_dp * lat
      a = max(0.0696_dp + 0.0049_dp * flight - 0.0064_dp * lat, 0.0_dp)
      x1 = 317.1_dp - 2.026_dp * flight + 1.915_dp * lat
      width = merge(25.0_dp, 15.0_dp, rmax > 20)
      fall = n * ((1 - a) * x1 + second_km * a)
      lo = 0; hi = 1
      do i = 1, 52
        mid = (lo + hi) / 2
        if (blend(mid) < fall / (fall + rmax)) then
          lo = mid
        else
          hi = mid
        end if
      end do
      k%vmax = real(own, sp)
      k%p = real([n, a, x1, rmax - lo * width, width], sp)
    end select
    k%rmax = real(rmax, sp)
    k%motion = real(motion, sp)
    k%east = real(merge(-east, east, now(2) < 0), sp)
    k%north = real(merge(-north, north, now(2) < 0), sp)
  end subroutine prepare

  ! How far from the eye the wind may reach the floor: as reach_of in wind_field.py.
  real(dp) function reach_of(model, k, within)
    integer, intent(in) :: model
    type(node), intent(in) :: k
    logical, intent(in) :: within
    integer, parameter :: n = 601
    real(sp) :: r(n), v(n), damped
    integer :: i
    r = [(0.5_sp * i, i = 1, n)]
    call angular(model, n, r * r, k, v)
    reach_of = 0
    do i = n, 1, -1
      damped = min(1.0_sp, k%rmax / r(i)) * k%motion
      if (within) v(i) = max(v(i) - damped, 0.0_sp)
      if (v(i) + damped >= floor_ms - 1e-3_dp) then
        reach_of = min(r(i) + 1.0_dp, reach_max_km)
        return
      end if
    end do
  end function reach_of
end module profiles

program wind
  use, intrinsic :: iso_fortran_env, only: error_unit, int32
  use profiles
  implicit none
  character(len=4096) :: track_file, field_file, word, line
  character(len=16) :: name
  real(dp) :: south, west, step
  real(dp), allocatable :: nodes(:, :)
  real(sp), allocatable :: field(:, :)
  integer :: rows, columns, count, model, unit, status, at, repeat, turn

  if (command_argument_count() < 2) call fail(2, "usage: wind TRACK FIELD [REPEAT]")
  call get_command_argument(1, track_file)
  call get_command_argument(2, field_file)
  repeat = 1
  if (command_argument_count() > 2) then
    call get_command_argument(3, word)
    read (word, *, iostat=status) repeat
    if (status /= 0 .or. repeat < 1) call fail(2, "REPEAT must be a whole number >= 1; got " // trim(word))
  end if

  open (newunit=unit, file=trim(track_file), status="old", action="read", iostat=status)
  if (status /= 0) call fail(3, "cannot read the track " // trim(track_file))
  read (unit, *, iostat=status) name
  if (status /= 0) call fail(4, "the track is empty")
  select case (name)
  case ("H1980"); model = h1980
  case ("H08"); model = h08
  case ("H10"); model = h10
  case ("ER11"); model = er11
  case ("W06"); model = w06
  case default; call fail(4, "unknown wind model " // trim(name) // "; choose from H1980, H08, H10, ER11, W06")
  end select
  read (unit, *, iostat=status) south, west, step, rows, columns
  if (status /= 0) call fail(4, "line 2 must be: south west step rows columns")
  if (step <= 0 .or. rows < 1 .or. columns < 1) call fail(4, "line 2: a grid needs points, and a step > 0")
  read (unit, *, iostat=status) count
  if (status /= 0 .or. count < 1) call fail(4, "line 3 must be the number of nodes, at least 1")
  allocate (nodes(7, count), field(columns, rows))
  do at = 1, count
    write (word, "(i0)") at
    read (unit, "(a)", iostat=status) line  ! by line: a short one shall not go on in the next
    if (status == 0) read (line, *, iostat=status) nodes(:, at)
    if (status /= 0) call fail(4, "node " // trim(word) // " must be seven numbers: hours lat lon vmax pcen penv rmax")
    if (.not. all(abs(nodes(:, at)) <= huge(1.0_sp))) call fail(4, "node " // trim(word) // " has a missing value")
    if (at > 1) then
      if (nodes(1, at) <= nodes(1, at - 1)) call fail(4, "node " // trim(word) // " is not later than the one before")
    end if
  end do
  read (unit, "(a)", iostat=status) line
  if (status == 0 .and. len_trim(line) > 0) call fail(4, "there are more nodes than line 3 announces")
  close (unit)

  do turn = 1, repeat
    call sweep(field)
  end do

  open (newunit=unit, file=trim(field_file), access="stream", form="unformatted", status="replace", iostat=status)
  if (status /= 0) call fail(3, "cannot write the field " // trim(field_file))
  write (unit, iostat=status) int(rows, int32), int(columns, int32), field
  if (status /= 0) call fail(3, "cannot write the field " // trim(field_file))
  close (unit)
contains
  subroutine sweep(field)
    real(sp), intent(out) :: field(columns, rows)
    real(sp) :: dx(columns), d2(columns), v(columns), r, damp, y, square
    real(dp) :: east, north, reach, eye, per_degree, half, middle, dy, lat
    type(node) :: k
    integer :: at, row, i, a, b, low, high
    logical :: within
    within = model == h08 .or. model == h10
    field = 0
    middle = west + step * (columns - 1) / 2
    do at = 2, count
      call prepare(model, nodes(:, at), nodes(:, at - 1), .false., k, east, north)
      reach = reach_of(model, k, within)
      if (reach <= 0) cycle
      lat = nodes(2, at)
      eye = nodes(3, at) + 360 * nint((middle - nodes(3, at)) / 360)
      per_degree = degree_km * cos(lat * pi / 180)
      low = max(1, ceiling((lat - reach / degree_km - south) / step) + 1)
      high = min(rows, floor((lat + reach / degree_km - south) / step) + 1)
      if (low > high) cycle
      dx = real([((west + step * (i - 1) - eye) * per_degree, i = 1, columns)], sp)
      do row = low, high
        dy = (south + step * (row - 1) - lat) * degree_km
        half = sqrt(max(reach**2 - dy**2, 0.0_dp)) / per_degree
        a = max(1, ceiling((eye - half - west) / step) + 1)
        b = min(columns, floor((eye + half - west) / step) + 1)
        if (a > b) cycle
        y = real(dy, sp)
        do i = a, b
          d2(i) = max(dx(i) * dx(i) + y * y, real(nearest_km**2, sp))
        end do
        call angular(model, b - a + 1, d2(a:b), k, v(a:b))
        !$omp simd private(r, damp, square)
        do i = a, b
          r = 1 / sqrt(d2(i))
          damp = min(1.0_sp, k%rmax * r)
          if (within) v(i) = max(v(i) - damp * k%motion, 0.0_sp)
          square = v(i) * v(i) + damp * (2 * v(i) * (dx(i) * k%north - y * k%east) * r + damp * k%motion * k%motion)
          field(i, row) = max(field(i, row), square)
        end do
      end do
    end do
    field = sqrt(field)
    where (field < real(floor_ms, sp)) field = 0
  end subroutine sweep

  subroutine fail(code, message)
    integer, intent(in) :: code
    character(len=*), intent(in) :: message
    write (error_unit, "(a)") "wind: " // message
    call exit(code)
  end subroutine fail
end program wind
