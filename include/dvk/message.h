/* Messages of M3-IPC: 64 bytes, with the original's member names. Included by dvk/dvk.h. */
#ifndef DVK_MESSAGE_H
#define DVK_MESSAGE_H

#include <time.h>

#define M3_STRING 14
#define MD5_SIZE 16
#define SLOTS_BY_MSG 4
#define MC_STRING (M3_STRING - sizeof(int))

typedef struct {
  int m1i1, m1i2, m1i3;
  char *m1p1, *m1p2, *m1p3;
} mess_1;
typedef struct {
  int m2i1, m2i2, m2i3;
  long m2l1, m2l2;
  char* m2p1;
} mess_2;
typedef struct {
  int m3i1, m3i2;
  char* m3p1;
  char m3ca1[M3_STRING];
} mess_3;
typedef struct {
  long m4l1, m4l2, m4l3, m4l4, m4l5;
} mess_4;
typedef struct {
  short m5c1, m5c2;
  int m5i1, m5i2;
  long m5l1, m5l2, m5l3;
} mess_5;
typedef struct {
  char m6ca1[sizeof(mess_3)];
} mess_6;
typedef struct {
  int m7i1, m7i2, m7i3, m7i4;
  char *m7p1, *m7p2;
} mess_7;
typedef struct {
  int m8i1, m8i2;
  char *m8p1, *m8p2, *m8p3, *m8p4;
} mess_8;
typedef struct {
  int m9i1;
  long m9l1;
  struct timespec m9t1;
} mess_9;
typedef struct {
  int mAdst, mAnr, mAia[SLOTS_BY_MSG];
} mess_A;
typedef struct {
  long mBnr;
  char mBmd5[MD5_SIZE];
} mess_B;
typedef struct {
  int mCi1, mCi2, mCi3, mCi4;
  char mCca1[MC_STRING];
} mess_C;

typedef struct {
  int m_source; /* endpoint of the sender, filled in by the sender's libdvk */
  int m_type;
  union {
    mess_1 m_m1;
    mess_2 m_m2;
    mess_3 m_m3;
    mess_4 m_m4;
    mess_5 m_m5;
    mess_6 m_m6;
    mess_7 m_m7;
    mess_8 m_m8;
    mess_9 m_m9;
    mess_A m_mA;
    mess_B m_mB;
    mess_C m_mC;
    char m_raw[56];
  } m_u;
} message;

#define m1_i1 m_u.m_m1.m1i1
#define m1_i2 m_u.m_m1.m1i2
#define m1_i3 m_u.m_m1.m1i3
#define m1_p1 m_u.m_m1.m1p1
#define m1_p2 m_u.m_m1.m1p2
#define m1_p3 m_u.m_m1.m1p3
#define m2_i1 m_u.m_m2.m2i1
#define m2_i2 m_u.m_m2.m2i2
#define m2_i3 m_u.m_m2.m2i3
#define m2_l1 m_u.m_m2.m2l1
#define m2_l2 m_u.m_m2.m2l2
#define m2_p1 m_u.m_m2.m2p1
#define m3_i1 m_u.m_m3.m3i1
#define m3_i2 m_u.m_m3.m3i2
#define m3_p1 m_u.m_m3.m3p1
#define m3_ca1 m_u.m_m3.m3ca1
#define m4_l1 m_u.m_m4.m4l1
#define m4_l2 m_u.m_m4.m4l2
#define m4_l3 m_u.m_m4.m4l3
#define m4_l4 m_u.m_m4.m4l4
#define m4_l5 m_u.m_m4.m4l5
#define m5_c1 m_u.m_m5.m5c1
#define m5_c2 m_u.m_m5.m5c2
#define m5_i1 m_u.m_m5.m5i1
#define m5_i2 m_u.m_m5.m5i2
#define m5_l1 m_u.m_m5.m5l1
#define m5_l2 m_u.m_m5.m5l2
#define m5_l3 m_u.m_m5.m5l3
#define m6_ca1 m_u.m_m6.m6ca1
#define m7_i1 m_u.m_m7.m7i1
#define m7_i2 m_u.m_m7.m7i2
#define m7_i3 m_u.m_m7.m7i3
#define m7_i4 m_u.m_m7.m7i4
#define m7_p1 m_u.m_m7.m7p1
#define m7_p2 m_u.m_m7.m7p2
#define m8_i1 m_u.m_m8.m8i1
#define m8_i2 m_u.m_m8.m8i2
#define m8_p1 m_u.m_m8.m8p1
#define m8_p2 m_u.m_m8.m8p2
#define m8_p3 m_u.m_m8.m8p3
#define m8_p4 m_u.m_m8.m8p4
#define m9_i1 m_u.m_m9.m9i1
#define m9_l1 m_u.m_m9.m9l1
#define m9_t1 m_u.m_m9.m9t1
#define mA_nr m_u.m_mA.mAnr
#define mA_dst m_u.m_mA.mAdst
#define mA_ia m_u.m_mA.mAia
#define mB_nr m_u.m_mB.mBnr
#define mB_md5 m_u.m_mB.mBmd5
#define mC_i1 m_u.m_mC.mCi1
#define mC_i2 m_u.m_mC.mCi2
#define mC_i3 m_u.m_mC.mCi3
#define mC_i4 m_u.m_mC.mCi4
#define mC_ca1 m_u.m_mC.mCca1

/* A notification arrives as a message of type NOTIFY_FROM(slot of its source); m9_i1 counts
 * nothing and is 0, m9_l1 is the value of dvk_ntfy_value (0 otherwise), m9_t1 CLOCK_REALTIME at
 * delivery. */
#define NOTIFY_MESSAGE 0x1000
#define NOTIFY_FROM(p_nr) (NOTIFY_MESSAGE | ((p_nr) + NR_TASKS))
#define NOTIFY_SOURCE m_source
#define NOTIFY_TYPE m_type
#define NOTIFY_FLAGS m9_i1
#define NOTIFY_ARG m9_l1
#define NOTIFY_TIMESTAMP m9_t1

#endif /* DVK_MESSAGE_H */
